"""The state of deliveries: the claim of a message by a worker, and the outcome of its attempt.

A claim has a lease. If its worker dies, any worker claims the same message after the lease.
"""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Executable,
    Select,
    Text,
    bindparam,
    delete,
    exists,
    select,
    update,
)

from app.database.clocks import Present
from app.database.engine import Database
from app.database.parameters import TENANT, KeyValue, as_json
from app.database.session import DriverSession
from app.database.tables import tenant
from app.database.webhook_tables import webhook, webhook_attempt
from app.domain.changes import ChangeBody, ChangeEvent, ChangeRecord, ChangeState, ChangeType
from app.domain.ids import ulid
from app.domain.webhooks import (
    GONE,
    MAX_FAILING,
    MESSAGE_CHANGES,
    Answer,
    DisablingReason,
    Message,
    WebhookStatus,
    retry_after,
)
from app.errors import ChangesGone
from app.reads.changes import get_feed_position, list_changes
from app.reads.due_webhooks import may_be_tried
from app.reads.webhooks import chosen_types, chosen_warehouses
from app.runtime.metrics import WEBHOOK_DELAY
from app.writes.rows import change_rows
from app.writes.statements import insert_changes

# Longer than an attempt and the transaction after it.
LEASE_SECONDS: Final = 45
# The most pages of the feed that a claim reads for changes that match.
CLAIMED_PAGES: Final = 10
# The newest attempts of a webhook that are kept.
KEPT_ATTEMPTS: Final = 500
_WEBHOOK_ID: Final = bindparam("webhook_id", type_=KeyValue)
_NO_LEASE: Final[Mapping[str, object]] = {"lease_id": None, "lease_until": None}


async def claim_message(database: Database, tenant_id: str, webhook_id: str) -> Message | None:
    """Claim the next message of a webhook; None if it is not due or another worker has it.

    A message that failed, or whose worker died, is claimed with the same id and changes. If the
    changes after its position are deleted, the webhook is disabled.
    """
    claim = partial(_claim, tenant_id, webhook_id)
    try:
        return await database.transaction(claim, tenant_id=tenant_id)
    except ChangesGone:
        reason = DisablingReason.CHANGES_GONE
        await database.write(partial(_disable, tenant_id, webhook_id, reason), tenant_id)
        return None


async def finish_attempt(database: Database, message: Message, answer: Answer) -> None:
    """Store the outcome of an attempt, and end its lease.

    A worker whose lease has passed to another one changes nothing.
    """
    finish = partial(_finish, message, answer)
    since = message.failing_since
    is_last = answer.status == GONE or (since is not None and message.at - since >= MAX_FAILING)
    if is_last and not answer.is_success:
        # The event of a webhook that is disabled needs the lock of the tenant.
        now = await database.write(finish, message.tenant_id)
    else:
        now = await database.transaction(finish, tenant_id=message.tenant_id)
    if now is not None:
        age = now - message.changes[0].created_at
        outcome = "delivered" if answer.is_success else "failed"
        WEBHOOK_DELAY.labels(outcome).observe(age.total_seconds())


async def _claim(tenant_id: str, webhook_id: str, session: DriverSession) -> Message | None:
    rows = await session.rows(_due_row(), {"tenant_id": tenant_id, "webhook_id": webhook_id})
    if not rows:
        return None
    row = rows[0]
    position: int = row.position
    read_to: int = row.position
    changes: Sequence[ChangeRecord] = ()
    for _ in range(CLAIMED_PAGES):
        page = await list_changes(
            session,
            tenant_id,
            after=read_to,
            limit=MESSAGE_CHANGES,
            types=chosen_types(row.types),
            warehouse_ids=chosen_warehouses(row.warehouse_ids),
        )
        position, read_to, changes = read_to, page.read_to, page.records
        if changes or read_to >= page.newest:
            break
    if row.message_to is not None:
        read_to = row.message_to
        changes = [record for record in changes if record.position <= read_to]
    if not changes:
        await _update(session, tenant_id, webhook_id, {"position": read_to})
        return None
    message_id = row.message_id or f"msg_{ulid()}"
    lease_id = ulid()
    claimed = {
        "position": position,
        "message_id": message_id,
        "message_to": read_to,
        "lease_id": lease_id,
        "lease_until": row.now + timedelta(seconds=LEASE_SECONDS),
    }
    await _update(session, tenant_id, webhook_id, claimed)
    has_previous = row.previous_secret is not None and row.previous_secret_until > row.now
    return Message(
        tenant_id=tenant_id,
        webhook_id=webhook_id,
        lease_id=lease_id,
        id=message_id,
        url=row.url,
        secrets=(row.secret, row.previous_secret) if has_previous else (row.secret,),
        at=row.now,
        after_position=position,
        read_to=read_to,
        changes=tuple(changes),
        failing_since=row.failing_since,
    )


async def _finish(message: Message, answer: Answer, session: DriverSession) -> datetime | None:
    """Store the outcome of an attempt. Returns the present, or None if the lease has passed."""
    tenant_id, webhook_id = message.tenant_id, message.webhook_id
    key = {"tenant_id": tenant_id, "webhook_id": webhook_id}
    rows = await session.rows(_leased_row(), {**key, "lease_id": message.lease_id})
    if not rows:
        return None
    row = rows[0]
    values: dict[str, Any] = {
        **_NO_LEASE,
        "last_attempt_at": message.at,
        "last_status": answer.status,
        "last_error": answer.error,
    }
    reason = None
    # Otherwise the URL, the filters or the position were changed during the attempt.
    if row.message_id == message.id and row.url == message.url:
        retry = retry_after(
            answer,
            failures=row.failures,
            failing_since=row.failing_since,
            now=row.now,
            random_part=random.random(),  # noqa: S311 - jitter
        )
        values |= {
            "failures": retry.failures,
            "failing_since": retry.failing_since,
            "next_attempt_at": retry.next_attempt_at,
        }
        if answer.is_success:
            values |= {"position": message.read_to, "message_id": None, "message_to": None}
        reason = retry.disabling_reason
    await _update(session, tenant_id, webhook_id, values)
    await _store_attempt(session, message, answer)
    if reason is not None:
        await _disable(tenant_id, webhook_id, reason, session)
    present: datetime = row.now
    return present


async def _store_attempt(session: DriverSession, message: Message, answer: Answer) -> None:
    id_ = ulid(message.at)
    row = {
        "tenant_id": message.tenant_id,
        "webhook_id": message.webhook_id,
        "id": id_,
        "message_id": message.id,
        "started_at": message.at,
        "duration_ms": answer.duration_ms,
        "after_position": message.after_position,
        "read_to": message.read_to,
        "changes": len(message.changes),
        "status": answer.status,
        "error": answer.error,
        "answer": answer.text,
    }
    await session.insert(webhook_attempt, [row])
    key = {"tenant_id": message.tenant_id, "webhook_id": message.webhook_id}
    await session.rows(_delete_old_attempts(), {**key, "kept": KEPT_ATTEMPTS - 1})


async def _disable(
    tenant_id: str, webhook_id: str, reason: DisablingReason, session: DriverSession
) -> None:
    """Disable an active webhook, and add the change to the feed. The tenant is locked."""
    is_webhook = (webhook.c.tenant_id == tenant_id) & (webhook.c.id == webhook_id)
    is_active = is_webhook & (webhook.c.status == WebhookStatus.ACTIVE.value)
    values = {"status": WebhookStatus.DISABLED.value, "disabling_reason": reason.value}
    statement = update(webhook).where(is_active).values(**values).returning(webhook.c.id)
    if not await session.execute(statement):
        return
    # A statement of its own: Citus refuses functions of the time after RETURNING.
    [row] = await session.execute(select(Present().label("now")))
    body = ChangeBody(
        before=ChangeState(is_active=True),
        after=ChangeState(is_active=False),
        webhook_id=webhook_id,
        reason=reason.value,
    )
    event = ChangeEvent(ChangeType.WEBHOOK_DISABLED, row.now, None, None, body)
    last = await get_feed_position(session, tenant_id)
    inserted = {"tenant": tenant_id, "rows": as_json(change_rows([event], last))}
    await session.rows(insert_changes(session.dialect), inserted)


async def _update(
    session: DriverSession, tenant_id: str, webhook_id: str, values: Mapping[str, Any]
) -> None:
    parameters = {f"new_{name}": value for name, value in values.items()}
    key = {"tenant_id": tenant_id, "webhook_id": webhook_id}
    await session.rows(_update_of(tuple(values)), {**parameters, **key})


@cache
def _due_row() -> Executable:
    is_served = exists().where(tenant.c.tenant_id == TENANT, tenant.c.deleted_since.is_(None))
    return _locked_row().where(may_be_tried(), is_served)


@cache
def _leased_row() -> Executable:
    return _locked_row().where(webhook.c.lease_id == bindparam("lease_id", type_=Text))


def _locked_row() -> Select[Any]:
    return (
        select(webhook, Present().label("now"))
        .where(webhook.c.tenant_id == TENANT, webhook.c.id == _WEBHOOK_ID)
        .with_for_update(of=webhook)
    )


@cache
def _update_of(names: tuple[str, ...]) -> Executable:
    """Return the UPDATE of some columns."""
    values = {name: bindparam(f"new_{name}", type_=webhook.c[name].type) for name in names}
    is_webhook = (webhook.c.tenant_id == TENANT) & (webhook.c.id == _WEBHOOK_ID)
    return update(webhook).where(is_webhook).values(values)


@cache
def _delete_old_attempts() -> Executable:
    columns = webhook_attempt.c
    of_webhook = (columns.tenant_id == TENANT) & (columns.webhook_id == _WEBHOOK_ID)
    oldest_kept = (
        select(columns.id)
        .where(of_webhook)
        .order_by(columns.id.desc())
        .limit(1)
        .offset(bindparam("kept", type_=BigInteger))
        .scalar_subquery()
    )
    return delete(webhook_attempt).where(of_webhook, columns.id < oldest_kept)
