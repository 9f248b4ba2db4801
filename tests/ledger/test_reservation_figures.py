"""Verification and repair of the figures that follow from reservations."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from app.ledger.repair import repair_tenant
from app.ledger.replay import LedgerBroken
from app.ledger.verification import verify_tenant
from tests.engines import writer_of
from tests.ledger.reservations import MAIN, RELEASE, line, reserve, stocked
from tests.ledger.writes import assert_proven
from tests.service import Service, level, sku


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE stock_level SET reserved = reserved + 1 WHERE reserved > 0", "reserved of stock"),
        ("UPDATE reservation_line SET held = 0", "reserved of stock"),
        (
            "UPDATE reservation SET status = 'released', ended_at = created_at",
            "is released and holds",
        ),
        ("UPDATE stock_level SET holds = holds + 1 WHERE sku = 'B'", "holds of stock level .B"),
        ("UPDATE warehouse SET reserved = reserved + 1", "reserved of warehouse wh_.*, and should"),
        ("UPDATE reservation_count SET reservations = 0 WHERE true", "count of open reservations"),
        ("UPDATE reservation_count SET status = 'expired'", "count of expired reservations"),
        ("DELETE FROM reservation_count", "count of open reservations"),
        (
            "UPDATE reservation_count SET reservations = 2 WHERE reference <> ''",
            "count of open reservations of order-1 is 2, and should be 1",
        ),
        (
            "DELETE FROM reservation_count WHERE reference <> ''",
            "count of open reservations of order-1 is 0, and should be 1",
        ),
    ],
)
async def test_verify_finds_wrong_reservation_figures(
    service: Service, change: str, message: str
) -> None:
    await stocked(service)
    await reserve(service, line("A", 2), reference="order-1")
    statement = (
        f"{change}{' AND' if 'WHERE' in change else ' WHERE'} tenant_id = '{service.tenant_id}'"
    )

    async with writer_of(service.database).connect() as connection:
        await connection.exec_driver_sql(statement)
        await connection.commit()
    with pytest.raises(LedgerBroken, match=message):
        await verify_tenant(service.database, service.tenant_id)


async def test_a_repair_recounts_reservations(service: Service) -> None:
    await stocked(service)
    for number in range(3):
        held = await reserve(service, line("A", 1), line("B", 1), reference="order-1")
        if number:
            await service.data(RELEASE, {"input": {"id": held["id"]}})
    async with writer_of(service.database).connect() as connection:
        for change in (
            "reservation_count SET status = 'expired'",
            "stock_level SET holds = 7",
            "warehouse SET reserved = 9",
        ):
            statement = f"UPDATE {change} WHERE tenant_id = '{service.tenant_id}'"
            open_ = " AND status = 'open'" if "expired" in change else ""
            await connection.exec_driver_sql(statement + open_)
        await connection.commit()
    repaired = await repair_tenant(service.database, service.tenant_id)
    assert {it for it in repaired if "count" in it} == {
        "count of expired reservations was 1, and is 0",
        "count of open reservations was 0, and is 1",
        "count of expired reservations of order-1 was 1, and is 0",
        "count of open reservations of order-1 was 0, and is 1",
    }
    assert f"holds of stock level (A, {MAIN.id}) was 7, and is 1" in repaired
    assert f"reserved of warehouse {MAIN.id} was 9, and is 2" in repaired
    await assert_proven(service)


async def test_a_repair_during_reservations_leaves_correct_counts(service: Service) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 500))])
    held = [await reserve(service, line("A", 1)) for _ in range(20)]
    async with writer_of(service.database).connect() as connection:
        change = "UPDATE reservation_count SET reservations = 100 WHERE tenant_id = "
        await connection.exec_driver_sql(f"{change}'{service.tenant_id}'")
        await connection.commit()
    writes: list[Coroutine[Any, Any, Any]] = [
        *(reserve(service, line("A", 1)) for _ in range(20)),
        *(service.data(RELEASE, {"input": {"id": it["id"]}}) for it in held),
    ]
    await asyncio.gather(
        *writes[::2], repair_tenant(service.database, service.tenant_id), *writes[1::2]
    )
    data = await service.data(
        "{ reservations { totalCount } open: reservations(filter: {status: OPEN}) { totalCount } }"
    )
    assert data == {"reservations": {"totalCount": 40}, "open": {"totalCount": 20}}
    await assert_proven(service)
