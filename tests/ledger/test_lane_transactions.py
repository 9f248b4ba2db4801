"""The beginning of a transaction in a lane: its limits, and the id of its tenant as mere text."""

from typing import Final

import pytest
from sqlalchemy import func, select, text

from app.database.beginnings import MAX_STALL_MS
from app.database.session import DriverSession
from app.database.tables import tenant
from tests.service import Service

STALL: Final = text(
    "SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
)
OWN_PROCESS: Final = text("SELECT pg_backend_pid()")


async def stall_of(session: DriverSession) -> tuple[int, int]:
    """Return the process of a session, and how long its transaction may stand still."""
    return await session.scalar(OWN_PROCESS), await session.scalar(STALL)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_lane_may_stand_still_for_a_shorter_time_than_other_transactions(
    service: Service,
) -> None:
    process, in_lane = await service.database.write(stall_of, service.tenant_id)
    again, elsewhere = await service.database.transaction(stall_of)

    assert in_lane == MAX_STALL_MS
    # Only the transaction of the lane has the limit, and not its connection.
    assert again == process
    assert elsewhere > in_lane


@pytest.mark.parametrize(
    "tenant_id",
    ["it's", "''", "\\'", "a\x00b", "x'; DELETE FROM api_token; SELECT 'x"],
    ids=["quote", "two quotes", "backslash", "NUL", "statement"],
)
async def test_the_id_of_a_tenant_is_mere_text_to_a_lane(service: Service, tenant_id: str) -> None:
    async def number_of_tenants(session: DriverSession) -> int:
        number = select(func.count()).where(tenant.c.tenant_id == service.tenant_id)
        return int(await session.scalar(number))

    assert await service.database.write(number_of_tenants, tenant_id) == 1
    assert (await service.rest("GET", "/api/inventory")).status_code == 200
