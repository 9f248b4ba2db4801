"""Rows of webhooks that no worker delivers."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.webhook_tables import webhook, webhook_attempt
from tests.service import Service

HOST = "hook-of-a.example"


async def insert_webhook(service: Service, id_: str, connection: AsyncConnection) -> None:
    """Insert a paused webhook with an attempt."""
    tenant = {"tenant_id": service.tenant_id}
    now = datetime.now(UTC)
    stored = {
        "id": id_,
        "url": f"https://{HOST}/",
        "status": "paused",
        "signature": "hmac",
        "secret": "whsec_c2VjcmV0",
        "created_at": now,
        "position": 1,
        "failures": 0,
        "next_attempt_at": now,
    }
    attempt = {
        "webhook_id": id_,
        "id": "1",
        "message_id": "msg_1",
        "started_at": now,
        "duration_ms": 5,
        "after_position": 0,
        "read_to": 1,
        "changes": 1,
        "status": 200,
        "answer": HOST,
    }
    await connection.execute(webhook.insert(), {**tenant, **stored})
    await connection.execute(webhook_attempt.insert(), {**tenant, **attempt})
