"""The webhooks of a tenant that are due; `app.reads.due_work` finds the tenants."""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, exists, or_, select

from app.database.clocks import Present
from app.database.parameters import TENANT
from app.database.session import Session
from app.database.tables import change
from app.database.webhook_tables import webhook
from app.domain.webhooks import WebhookStatus
from app.reads.paging import PAGE_LIMIT


class DueWebhook(NamedTuple):
    """The key of a webhook that is due."""

    tenant_id: str
    webhook_id: str


async def list_due_webhooks(session: Session, tenant_id: str, *, limit: int) -> list[DueWebhook]:
    """Read the webhooks of a tenant that have been due the longest."""
    parameters = {"tenant_id": tenant_id, "limit": limit}
    rows = await session.rows(_due_webhooks(), parameters)
    return [DueWebhook(tenant_id, row.id) for row in rows]


def may_be_tried() -> ColumnElement[bool]:
    """Return the condition that a webhook may be tried now, if its feed has new changes."""
    is_active = webhook.c.status == WebhookStatus.ACTIVE.value
    is_free = or_(webhook.c.lease_until.is_(None), webhook.c.lease_until <= Present())
    return is_active & (webhook.c.next_attempt_at <= Present()) & is_free


@cache
def _due_webhooks() -> Select[Any]:
    has_changes = exists().where(
        change.c.tenant_id == webhook.c.tenant_id, change.c.position > webhook.c.position
    )
    return (
        select(webhook.c.id)
        .where(webhook.c.tenant_id == TENANT, may_be_tried(), has_changes)
        .order_by(webhook.c.next_attempt_at, webhook.c.id)
        .limit(PAGE_LIMIT)
    )
