"""Management of webhooks. Each write locks the tenant, as stock writes do."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, delete, exists, select, update

from app.database.clocks import Present
from app.database.engine import Database
from app.database.session import DriverSession
from app.database.tables import tenant
from app.database.webhook_tables import webhook, webhook_attempt
from app.domain.changes import ChangeType
from app.domain.ids import ulid
from app.domain.signatures import SignatureKind, new_signing_key
from app.domain.webhooks import (
    MAX_FILTERED_WAREHOUSES,
    MAX_WEBHOOKS,
    WebhookRecord,
    WebhookStatus,
    url_problem,
)
from app.errors import WebhookNotFound, invalid_field, warehouse_not_found
from app.reads.changes import get_feed_position, list_changes
from app.reads.warehouses import get_warehouses
from app.reads.webhooks import count_webhooks, get_webhooks
from app.writes.tenants import tenant_not_found

MAX_SECRET_OVERLAP_HOURS: Final = 7 * 24
Result = TypeVar("Result")
# A change of a message or of an endpoint is tried at once.
_AFRESH: Final[Mapping[str, object]] = {"failures": 0, "failing_since": None}
_NO_MESSAGE: Final[Mapping[str, object]] = {"message_id": None, "message_to": None}


class SignedWebhook(NamedTuple):
    """A webhook with a new secret, which is shown once; None for Ed25519, whose key is public."""

    record: WebhookRecord
    secret: str | None


async def create_webhook(
    database: Database,
    tenant_id: str,
    *,
    url: str,
    types: Collection[ChangeType] | None = None,
    warehouse_ids: Collection[str] | None = None,
    signature: SignatureKind = SignatureKind.HMAC,
) -> SignedWebhook:
    """Create a webhook for the changes that follow.

    Raises:
        ValidationFailed: the URL or a filter is malformed, or the tenant has MAX_WEBHOOKS.
        WarehouseNotFound: the tenant does not have a warehouse of the filter.
        NotFound: the tenant does not exist.

    """
    _check_url(database, url)
    key = new_signing_key(signature)
    id_ = f"whk_{ulid()}"

    async def work(session: DriverSession) -> SignedWebhook:
        if await count_webhooks(session, tenant_id) >= MAX_WEBHOOKS:
            problem = f"is one too many: a tenant has at most {MAX_WEBHOOKS} webhooks"
            raise invalid_field("url", problem)
        row = {
            "tenant_id": tenant_id,
            "id": id_,
            "url": url,
            **await _filter_values(session, tenant_id, types=types, warehouse_ids=warehouse_ids),
            "status": WebhookStatus.ACTIVE.value,
            "signature": signature.value,
            "secret": key.secret,
            "public_key": key.public_key,
            "created_at": Present(),
            "position": await get_feed_position(session, tenant_id),
            "failures": 0,
            "next_attempt_at": Present(),
        }
        await session.execute(webhook.insert().values(row))
        record = await _require_webhook(session, tenant_id, id_)
        return SignedWebhook(record, None if key.public_key else key.secret)

    return await _write(database, tenant_id, work)


async def update_webhook(
    database: Database, tenant_id: str, webhook_id: str, changes: Mapping[str, Any]
) -> WebhookRecord:
    """Change the `url`, `types`, `warehouse_ids` or `is_paused` of a webhook.

    A webhook that is no longer paused goes on where it stopped.

    Raises:
        ValidationFailed: the URL or a filter is malformed.
        WarehouseNotFound: the tenant does not have a warehouse of the filter.
        WebhookNotFound: the tenant does not have the webhook.
        ChangesGone: the changes after the position of the paused webhook are deleted.

    """
    if "url" in changes:
        _check_url(database, changes["url"])

    async def work(session: DriverSession) -> WebhookRecord:
        record = await _require_webhook(session, tenant_id, webhook_id)
        filters = {name: changes[name] for name in ("types", "warehouse_ids") if name in changes}
        values = await _filter_values(session, tenant_id, **filters)
        if values:
            values |= _NO_MESSAGE
        if "url" in changes:
            values["url"] = changes["url"]
        if values or changes.get("is_paused") is False:
            values |= {**_AFRESH, "next_attempt_at": Present()}
        if "is_paused" in changes:
            is_paused = changes["is_paused"]
            if not is_paused:
                await _require_changes_after(session, tenant_id, record.position)
            status = WebhookStatus.PAUSED if is_paused else WebhookStatus.ACTIVE
            values |= {"status": status.value, "disabling_reason": None}
        return await _update(session, tenant_id, webhook_id, values)

    return await _write(database, tenant_id, work)


async def rotate_webhook_secret(
    database: Database, tenant_id: str, webhook_id: str, *, overlap: timedelta
) -> SignedWebhook:
    """Replace the secret of a webhook. The old one signs as well until the end of the overlap.

    Raises:
        ValidationFailed: the overlap is negative or longer than MAX_SECRET_OVERLAP_HOURS.
        WebhookNotFound: the tenant does not have the webhook.

    """
    if not timedelta() <= overlap <= timedelta(hours=MAX_SECRET_OVERLAP_HOURS):
        raise invalid_field("overlapHours", f"must be 0 to {MAX_SECRET_OVERLAP_HOURS}")

    async def work(session: DriverSession) -> SignedWebhook:
        record = await _require_webhook(session, tenant_id, webhook_id)
        key = new_signing_key(record.signature)
        values = {
            "previous_secret": webhook.c.secret,
            "previous_secret_until": Present(round(overlap.total_seconds())),
            "secret": key.secret,
            "public_key": key.public_key,
        }
        changed = await _update(session, tenant_id, webhook_id, values)
        return SignedWebhook(changed, None if key.public_key else key.secret)

    return await _write(database, tenant_id, work)


async def send_again(
    database: Database, tenant_id: str, webhook_id: str, *, after: int
) -> WebhookRecord:
    """Let a webhook go on after a position: all later changes are sent, in new messages.

    Raises:
        ChangesGone: the feed does not have the changes after the position.
        WebhookNotFound: the tenant does not have the webhook.

    """

    async def work(session: DriverSession) -> WebhookRecord:
        await _require_webhook(session, tenant_id, webhook_id)
        await _require_changes_after(session, tenant_id, after)
        values = {"position": after, "next_attempt_at": Present(), **_NO_MESSAGE, **_AFRESH}
        return await _update(session, tenant_id, webhook_id, values)

    return await _write(database, tenant_id, work)


async def delete_webhook(database: Database, tenant_id: str, webhook_id: str) -> WebhookRecord:
    """Delete a webhook with its attempts.

    Raises:
        WebhookNotFound: the tenant does not have the webhook.

    """

    async def work(session: DriverSession) -> WebhookRecord:
        record = await _require_webhook(session, tenant_id, webhook_id)
        is_attempt = webhook_attempt.c.webhook_id == webhook_id
        of_tenant = webhook_attempt.c.tenant_id == tenant_id
        await session.execute(delete(webhook_attempt).where(of_tenant, is_attempt))
        await session.execute(delete(webhook).where(_is_webhook(tenant_id, webhook_id)))
        return record

    return await _write(database, tenant_id, work)


def webhook_not_found(webhook_id: str) -> WebhookNotFound:
    """Return the refusal of a webhook id that the tenant does not have."""
    return WebhookNotFound(f"Webhook {webhook_id!r} does not exist.", details=[{"id": webhook_id}])


async def _write(
    database: Database, tenant_id: str, work: Callable[[DriverSession], Awaitable[Result]]
) -> Result:
    """Write in a transaction that locks the tenant, unless the tenant is being deleted."""

    async def checked(session: DriverSession) -> Result:
        is_served = (tenant.c.tenant_id == tenant_id) & tenant.c.deleted_since.is_(None)
        if not await session.scalar(select(exists().where(is_served))):
            raise tenant_not_found(tenant_id)
        return await work(session)

    return await database.write(checked, tenant_id)


def _check_url(database: Database, url: str) -> None:
    if problem := url_problem(url, to_loopback=database.settings.webhooks_to_loopback):
        raise invalid_field("url", problem)


async def _filter_values(
    session: DriverSession, tenant_id: str, **filters: Collection[str] | None
) -> dict[str, Any]:
    """Check the filters that are given, and return the values to store."""
    names = {"types": "types", "warehouse_ids": "warehouseIds"}
    values: dict[str, Any] = {}
    for name, chosen in filters.items():
        if chosen is not None and not 1 <= len(chosen) <= MAX_FILTERED_WAREHOUSES:
            problem = f"must hold 1 to {MAX_FILTERED_WAREHOUSES} items; null sends all changes"
            raise invalid_field(names[name], problem)
        values[name] = None if chosen is None else " ".join(sorted(set(chosen)))
    wanted: Sequence[str] = sorted(filters.get("warehouse_ids") or ())
    found = await get_warehouses(session, tenant_id, ids=wanted) if wanted else {}
    if missing := [id_ for id_ in wanted if id_ not in found]:
        raise warehouse_not_found(missing[0])
    return values


async def _require_changes_after(session: DriverSession, tenant_id: str, position: int) -> None:
    if position < 0:
        raise invalid_field("after", f"must be 0 or more, and is {position}")
    await list_changes(session, tenant_id, after=position, limit=1)


async def _require_webhook(
    session: DriverSession, tenant_id: str, webhook_id: str
) -> WebhookRecord:
    found = await get_webhooks(session, tenant_id, ids=[webhook_id])
    if webhook_id not in found:
        raise webhook_not_found(webhook_id)
    return found[webhook_id]


async def _update(
    session: DriverSession, tenant_id: str, webhook_id: str, values: Mapping[str, Any]
) -> WebhookRecord:
    if values:
        is_webhook = _is_webhook(tenant_id, webhook_id)
        await session.execute(update(webhook).where(is_webhook).values(**values))
    return await _require_webhook(session, tenant_id, webhook_id)


def _is_webhook(tenant_id: str, webhook_id: str) -> ColumnElement[bool]:
    return (webhook.c.tenant_id == tenant_id) & (webhook.c.id == webhook_id)
