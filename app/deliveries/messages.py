"""The bodies of messages. A change has the form that it has in the REST feed."""

from datetime import datetime
from typing import Any

import orjson

from app.domain.changes import ChangeRecord, ChangeState
from app.domain.instants import format_instant
from app.domain.webhooks import MESSAGE_TYPE, Message


def message_body(message: Message) -> str:
    """Render the body of a message. A retry has the same body."""
    content = {
        "type": MESSAGE_TYPE,
        "timestamp": message.changes[-1].created_at,
        "data": {
            "webhook_id": message.webhook_id,
            "after": message.after_position,
            "read_to": message.read_to,
            "changes": [_rendered_change(record) for record in message.changes],
        },
    }
    return orjson.dumps(content, _instant, orjson.OPT_PASSTHROUGH_DATETIME).decode()


def _rendered_change(record: ChangeRecord) -> dict[str, Any]:
    body = record.body
    fields: dict[str, Any] = {
        "position": record.position,
        "type": record.type.value,
        "created_at": record.created_at,
        "sku": record.sku,
        "warehouse_id": record.warehouse_id,
        "reservation_id": body.reservation_id,
        "webhook_id": body.webhook_id,
        "adjustment_id": body.adjustment_id,
        "reason": body.reason,
        "reference": body.reference,
        "occurred_at": body.occurred_at,
        "before": _rendered_state(body.before) if body.before else None,
        "after": _rendered_state(body.after),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _rendered_state(state: ChangeState) -> dict[str, Any]:
    values = ((name, getattr(state, name)) for name in ChangeState.__struct_fields__)
    rendered = {name: value for name, value in values if value is not None}
    if state.external_ids is not None:
        rendered["external_ids"] = [
            {"namespace": each.namespace, "value": each.value} for each in state.external_ids
        ]
    if state.metadata is not None:
        rendered["metadata"] = {entry.key: entry.value for entry in state.metadata}
    return rendered


def _instant(value: object) -> str:
    if isinstance(value, datetime):
        return format_instant(value)
    raise TypeError
