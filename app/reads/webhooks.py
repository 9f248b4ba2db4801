"""Reads of webhooks and of their attempts. No read returns a secret."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Select, bindparam, func, select

from app.database.parameters import TENANT, KeyValue, in_key_array
from app.database.session import Session
from app.database.webhook_tables import webhook, webhook_attempt
from app.domain.changes import ChangeType
from app.domain.signatures import SignatureKind
from app.domain.webhooks import AttemptRecord, DisablingReason, WebhookRecord, WebhookStatus
from app.reads.paging import PAGE_LIMIT

WEBHOOK_COLUMNS: Final = tuple(webhook.c[name] for name in WebhookRecord.__struct_fields__)
_ATTEMPT_COLUMNS: Final = tuple(webhook_attempt.c[name] for name in AttemptRecord.__struct_fields__)
_WEBHOOK_ID: Final = bindparam("webhook_id", type_=KeyValue)


async def list_webhooks(
    session: Session, tenant_id: str, *, after: str | None = None, limit: int
) -> list[WebhookRecord]:
    """Read webhooks, oldest first."""
    parameters = {"tenant_id": tenant_id, "after": after or "", "limit": limit}
    return [webhook_record(row) for row in await session.rows(_page_of_webhooks(), parameters)]


async def count_webhooks(session: Session, tenant_id: str) -> int:
    """Count the webhooks of a tenant."""
    rows = await session.rows(_webhook_count(), {"tenant_id": tenant_id})
    return int(rows[0][0])


async def get_webhooks(
    session: Session, tenant_id: str, *, ids: Sequence[str]
) -> dict[str, WebhookRecord]:
    """Read webhooks by id; missing ids are absent."""
    parameters = {"tenant_id": tenant_id, "ids": ids}
    rows = await session.rows(_webhooks_by_id(session.dialect), parameters)
    return {row.id: webhook_record(row) for row in rows}


async def list_attempts(
    session: Session, tenant_id: str, webhook_id: str, *, before: str | None = None, limit: int
) -> list[AttemptRecord]:
    """Read the attempts of a webhook, newest first."""
    parameters: dict[str, object] = {"tenant_id": tenant_id, "webhook_id": webhook_id}
    parameters |= {"limit": limit} if before is None else {"limit": limit, "before": before}
    rows = await session.rows(_page_of_attempts(is_first=before is None), parameters)
    return [
        AttemptRecord(**dict(zip(AttemptRecord.__struct_fields__, row, strict=True)))
        for row in rows
    ]


async def count_attempts(session: Session, tenant_id: str, webhook_id: str) -> int:
    """Count the kept attempts of a webhook."""
    parameters = {"tenant_id": tenant_id, "webhook_id": webhook_id}
    rows = await session.rows(_attempt_count(), parameters)
    return int(rows[0][0])


def webhook_record(row: Sequence[Any]) -> WebhookRecord:
    """Convert a row of WEBHOOK_COLUMNS."""
    values = dict(zip(WebhookRecord.__struct_fields__, row, strict=True))
    reason = values["disabling_reason"]
    values |= {
        "types": chosen_types(values["types"]),
        "warehouse_ids": chosen_warehouses(values["warehouse_ids"]),
        "status": WebhookStatus(values["status"]),
        "disabling_reason": None if reason is None else DisablingReason(reason),
        "signature": SignatureKind(values["signature"]),
    }
    return WebhookRecord(**values)


def chosen_types(stored: str | None) -> list[ChangeType] | None:
    """Convert the stored types of a webhook."""
    return None if stored is None else list(map(ChangeType, stored.split()))


def chosen_warehouses(stored: str | None) -> list[str] | None:
    """Convert the stored warehouse ids of a webhook."""
    return None if stored is None else stored.split()


@cache
def _page_of_webhooks() -> Select[Any]:
    return (
        select(*WEBHOOK_COLUMNS)
        .where(webhook.c.tenant_id == TENANT, webhook.c.id > bindparam("after", type_=KeyValue))
        .order_by(webhook.c.id)
        .limit(PAGE_LIMIT)
    )


@cache
def _webhook_count() -> Select[Any]:
    return select(func.count()).select_from(webhook).where(webhook.c.tenant_id == TENANT)


@cache
def _webhooks_by_id(dialect: str) -> Select[Any]:
    return select(*WEBHOOK_COLUMNS).where(
        webhook.c.tenant_id == TENANT, in_key_array(dialect, webhook.c.id, "ids")
    )


@cache
def _page_of_attempts(*, is_first: bool) -> Select[Any]:
    conditions = [
        webhook_attempt.c.tenant_id == TENANT,
        webhook_attempt.c.webhook_id == _WEBHOOK_ID,
    ]
    if not is_first:
        conditions.append(webhook_attempt.c.id < bindparam("before", type_=KeyValue))
    return (
        select(*_ATTEMPT_COLUMNS)
        .where(*conditions)
        .order_by(webhook_attempt.c.id.desc())
        .limit(PAGE_LIMIT)
    )


@cache
def _attempt_count() -> Select[Any]:
    return (
        select(func.count())
        .select_from(webhook_attempt)
        .where(webhook_attempt.c.tenant_id == TENANT, webhook_attempt.c.webhook_id == _WEBHOOK_ID)
    )
