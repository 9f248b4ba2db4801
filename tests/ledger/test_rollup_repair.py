"""Wrong sums of the rollup are found and repaired."""

import asyncio
import random
from itertools import cycle, product
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
from tests.clocks import clocks_at
from tests.engines import writer_of
from tests.ledger.rollup import (
    FIRST,
    HAS_ME_BLOCKING,
    assert_exact,
    caller,
    change,
    kept,
    sum_up_all,
    until,
)
from tests.ledger.writes import assert_proven
from tests.service import Service

pytestmark = pytest.mark.usefixtures("small_steps")

BREAKS: Final = {
    "one entry too many": "UPDATE ledger_sum SET entries = entries + 1 WHERE {one}",
    "another lower half": "UPDATE ledger_sum SET delta_lower = delta_lower + 1 WHERE {one}",
    "another upper half": "UPDATE ledger_sum SET delta_upper = delta_upper - 1 WHERE {one}",
    "another sign": "UPDATE ledger_sum SET sign = -7 WHERE {one}",
    "another author": "UPDATE ledger_sum SET created_by = 'x' WHERE {one}",
    "a missing row": "DELETE FROM ledger_sum WHERE {one}",
    "another end": ("UPDATE ledger_sum SET until = '2026-03-10T00:00:00.444Z' WHERE {sum}"),
    "another group": (
        "UPDATE ledger_sum SET kind = 'reference', sku = '', reference = 'x' WHERE {sum}"
    ),
    "a rollup that ends too late": (
        "UPDATE tenant SET summed_until = '2026-03-17T00:00:00.000Z' WHERE {of_tenant}"
    ),
}


# Each break with one kind of group, and the first break with every kind.
BROKEN: Final = {
    *zip(BREAKS, cycle(Group), strict=False),
    *product([*BREAKS][:1], Group),
}


@pytest.mark.parametrize(("what", "kind"), sorted(BROKEN))
async def test_a_wrong_sum_is_found_and_repaired(shop: Service, what: str, kind: Group) -> None:
    await sum_up_all(shop)
    await assert_proven(shop)
    before = await kept(shop)
    reference, code, instant, _ = before[kind][len(before[kind]) // 2]
    of_tenant = f"tenant_id = '{shop.tenant_id}'"
    moment = instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    of_sum = (
        f"{of_tenant} AND kind = '{kind}' AND reference = '{reference}' AND sku = '{code}'"
        f" AND until = '{moment}'"
    )
    row = "(warehouse_id, reason, created_by, sign)"
    names = row.strip("()")
    one = (
        f"{of_sum} AND {row} IN (SELECT {names} FROM ledger_sum WHERE {of_sum}"
        f" ORDER BY {names} LIMIT 1)"
    )
    if what == "a rollup that ends too late":
        async with clocks_at(shop.database, FIRST):
            await change_stock(shop.database, caller(shop), change())
    async with writer_of(shop.database).connect() as connection:
        if "sign" in BREAKS[what]:
            await unchecked(connection)
        await connection.execute(
            text(BREAKS[what].format(one=one, sum=of_sum, of_tenant=of_tenant))
        )
        await connection.commit()

    with pytest.raises(
        LedgerBroken, match=r"the rollup of the .* before 2026-03-.* is not the sum"
    ):
        await verify_tenant(shop.database, shop.tenant_id)
    [repair] = await repair_tenant(shop.database, shop.tenant_id)
    assert "rollups of the ledger from 2026-03-" in repair
    await assert_proven(shop)
    await assert_exact(shop, random.Random(9), 5)
    assert await repair_tenant(shop.database, shop.tenant_id) == []
    if what != "a rollup that ends too late":
        assert await kept(shop) == before


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_repair_during_a_rollup_leaves_no_wrong_sums(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await roll_up_ledger(shop.database, shop.tenant_id)
    known = await until(shop)
    assert known is not None
    wrong = ledger_sum.c.tenant_id == shop.tenant_id, ledger_sum.c.until == known
    async with writer_of(shop.database).connect() as connection:
        more = update(ledger_sum).where(*wrong).values(entries=ledger_sum.c.entries + 1)
        await connection.execute(more)
        await connection.commit()
    works = []

    async def transaction(work: Any, **_options: Any) -> bool:
        works.append(work)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(shop.database, "transaction", transaction)
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


async def unchecked(connection: AsyncConnection) -> None:
    """Allow any sign in a sum."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
    else:
        await connection.exec_driver_sql(
            "ALTER TABLE ledger_sum DROP CONSTRAINT IF EXISTS ledger_sum_sign_check"
        )
