"""Wrong sums of the rollup are found and repaired."""

import asyncio
import random
from itertools import count, cycle, product
from typing import Any, Final

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.tables import ledger_sum
from app.ledger.repair import repair_tenant
from app.ledger.replay import LedgerBroken
from app.ledger.rollup import roll_up_ledger
from app.ledger.totals import Group
from app.ledger.verification import verify_tenant
from app.writes.stock import change_stock
from tests.engines import writer_of
from tests.ledger.behind import change_behind_its_back
from tests.ledger.rollup import (
    HAS_ME_BLOCKING,
    WAREHOUSES,
    assert_exact,
    caller,
    change,
    kept,
    sum_up_all,
    until,
)
from tests.ledger.writes import assert_proven
from tests.service import Service, sku

pytestmark = pytest.mark.usefixtures("small_steps")

BREAKS: Final = {
    "one entry too many": "UPDATE ledger_sum SET entries = entries + 1 WHERE {one}",
    "another lower half": "UPDATE ledger_sum SET delta_lower = delta_lower + 1 WHERE {one}",
    "another upper half": "UPDATE ledger_sum SET delta_upper = delta_upper - 1 WHERE {one}",
    "another sign": "UPDATE ledger_sum SET sign = -7 WHERE {one}",
    "another author": "UPDATE ledger_sum SET created_by = 'x' WHERE {one}",
    "a missing row": "DELETE FROM ledger_sum WHERE {one}",
    "an earlier end": "UPDATE ledger_sum SET until = 0 WHERE {sum}",
    "a later end": "UPDATE ledger_sum SET until = until + 1000 WHERE {sum}",
    "another group": (
        "UPDATE ledger_sum SET kind = 'reference', sku = '', reference = 'x' WHERE {sum}"
    ),
}


# Each break with one kind of group, and the first break with every kind.
BROKEN: Final = {
    *zip(BREAKS, cycle(Group), strict=False),
    *product([*BREAKS][:1], Group),
}


LATE_ROLLUP: Final = """
INSERT INTO ledger_sum (tenant_id, kind, reference, sku, until, warehouse_id, reason, created_by,
  sign, entries, delta_upper, delta_lower)
SELECT tenant_id, 'ledger', '', '', 1000000, warehouse_id, reason, created_by,
  CASE WHEN delta > 0 THEN 1 WHEN delta < 0 THEN -1 ELSE 0 END AS sign,
  COUNT(*), SUM(delta >> 32), SUM(delta & 4294967295)
FROM adjustment WHERE tenant_id = '{tenant_id}'
GROUP BY tenant_id, warehouse_id, reason, created_by, sign
"""


async def test_a_rollup_that_ends_after_the_ledger_is_found_and_repaired(shop: Service) -> None:
    await sum_up_all(shop)
    before = await kept(shop)
    async with writer_of(shop.database).begin() as connection:
        await connection.execute(text(LATE_ROLLUP.format(tenant_id=shop.tenant_id)))
    with pytest.raises(LedgerBroken, match="rollup of the ledger up to position 1000000"):
        await verify_tenant(shop.database, shop.tenant_id)

    await repair_tenant(shop.database, shop.tenant_id)

    assert await kept(shop) == before
    await assert_proven(shop)


@pytest.mark.parametrize(("what", "kind"), sorted(BROKEN))
async def test_a_wrong_sum_is_found_and_repaired(shop: Service, what: str, kind: Group) -> None:
    await sum_up_all(shop)
    await assert_proven(shop)
    before = await kept(shop)
    reference, code, position, _ = before[kind][len(before[kind]) // 2]
    of_tenant = f"tenant_id = '{shop.tenant_id}'"
    of_sum = (
        f"{of_tenant} AND kind = '{kind}' AND reference = '{reference}' AND sku = '{code}'"
        f" AND until = {position}"
    )
    row = "(warehouse_id, reason, created_by, sign)"
    names = row.strip("()")
    one = (
        f"{of_sum} AND {row} IN (SELECT {names} FROM ledger_sum WHERE {of_sum}"
        f" ORDER BY {names} LIMIT 1)"
    )
    async with writer_of(shop.database).connect() as connection:
        if "sign" in BREAKS[what]:
            await unchecked(connection)
        await connection.execute(text(BREAKS[what].format(one=one, sum=of_sum)))
        await connection.commit()

    with pytest.raises(
        LedgerBroken, match=r"the rollup of the .* up to position \d+ is not the sum"
    ):
        await verify_tenant(shop.database, shop.tenant_id)
    [repair] = await repair_tenant(shop.database, shop.tenant_id)
    assert repair.startswith("rollups of the ledger from position ")
    await assert_proven(shop)
    await assert_exact(shop, random.Random(9), 5)
    assert await repair_tenant(shop.database, shop.tenant_id) == []
    # A rollup that moved beyond later ones is not stored at its old position again.
    if what != "a later end":
        assert await kept(shop) == before


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_repair_during_a_rollup_leaves_no_wrong_sums(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await roll_up_ledger(shop.database, shop.tenant_id)
    known = await until(shop)
    wrong = ledger_sum.c.tenant_id == shop.tenant_id, ledger_sum.c.until == known
    async with writer_of(shop.database).connect() as connection:
        more = update(ledger_sum).where(*wrong).values(entries=ledger_sum.c.entries + 1)
        await connection.execute(more)
        await connection.commit()
    works = []

    async def write(work: Any, _tenant_id: str) -> bool:
        works.append(work)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(shop.database, "write", write)
        await roll_up_ledger(shop.database, shop.tenant_id)
    [keep] = works
    beginning = shop.database._beginnings.lane(shop.tenant_id)
    other = await shop.database.write_session(beginning, "another")
    assert await keep(other)
    repairing = asyncio.create_task(repair_tenant(shop.database, shop.tenant_id))
    while not await other.scalar(HAS_ME_BLOCKING):
        assert not repairing.done()
    await other.commit()
    await other.close()
    assert await repairing
    await assert_proven(shop)


@pytest.mark.parametrize(
    "step", range(5), ids=["SKUs", "no more SKUs", "counts", "reservations", "deletion of rollups"]
)
@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_each_step_of_a_repair_waits_for_the_lane_of_the_tenant(
    shop: Service, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    assert await roll_up_ledger(shop.database, shop.tenant_id)
    async with writer_of(shop.database).connect() as connection:
        of_tenant = ledger_sum.c.tenant_id == shop.tenant_id
        more = update(ledger_sum).where(of_tenant).values(entries=ledger_sum.c.entries + 1)
        await connection.execute(more)
        await connection.commit()
    original = shop.database.write
    steps = count()
    waited = False

    async def behind_a_write(work: Any, tenant_id: str) -> Any:
        nonlocal waited
        if next(steps) != step:
            return await original(work, tenant_id)
        beginning = shop.database._beginnings.lane(shop.tenant_id)
        other = await shop.database.write_session(beginning, "another")
        repairing = asyncio.create_task(original(work, tenant_id))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not repairing.done()
        await other.commit()
        await other.close()
        waited = True
        return await repairing

    with monkeypatch.context() as patch:
        patch.setattr(shop.database, "write", behind_a_write)
        [repair] = await repair_tenant(shop.database, shop.tenant_id)

    assert waited
    assert "rollups of the ledger" in repair
    await assert_proven(shop)


async def test_a_gap_in_the_ledger_ends_the_rollup(service: Service) -> None:
    await service.load(WAREHOUSES, [sku("A"), sku("B")])
    for code in "AABAAB":
        await change_stock(service.database, caller(service), change(code))
    await change_behind_its_back(
        service,
        f"DELETE FROM adjustment WHERE tenant_id = '{service.tenant_id}' AND position = 6",
        f"UPDATE adjustment SET position = 7 WHERE tenant_id = '{service.tenant_id}'"
        " AND position = 5",
    )

    # Up to position 6, A has enough adjustments for a rollup, and the ledger has too few.
    assert await sum_up_all(service) == 1
    assert await until(service) == 3
    with pytest.raises(LedgerBroken, match="position of adjustment"):
        await verify_tenant(service.database, service.tenant_id)


async def unchecked(connection: AsyncConnection) -> None:
    """Allow any sign in a sum."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
    else:
        await connection.exec_driver_sql(
            "ALTER TABLE ledger_sum DROP CONSTRAINT IF EXISTS ledger_sum_sign_check"
        )
