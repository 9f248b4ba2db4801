"""`verify` finds every inconsistency that was made directly in the database."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from app.files.seeding import LoadedLevel
from app.ledger.repair import repair_tenant
from app.ledger.replay import LedgerBroken
from app.ledger.verification import verify_ledger, verify_tenant
from tests.ledger.behind import change_behind_its_back, rehash
from tests.ledger.writes import ADJUST
from tests.processes import run
from tests.service import Service, counted, level, new_tenant, running, sku, warehouse

# Change of the database, and a part of the message of the verification.
BREAKS = {
    "an entry is gone from the middle": (
        "DELETE FROM adjustment WHERE sku = 'A' AND sequence = 2",
        "sequence of adjustment",
    ),
    "the last entry is gone": (
        "DELETE FROM adjustment WHERE sku = 'A' AND sequence = 3",
        "on_hand of stock level (A, ",
    ),
    "every entry of a level is gone": (
        "DELETE FROM adjustment WHERE sku = 'A'",
        "on_hand of stock level (A, ",
    ),
    "a gap between two entries": (
        "UPDATE adjustment SET before_quantity = 11, delta = delta - 1"
        " WHERE sku = 'A' AND sequence = 2",
        "before_quantity of adjustment",
    ),
    "a delta that does not match": (
        "UPDATE adjustment SET delta = delta + 1 WHERE sku = 'A' AND sequence = 2",
        "after_quantity of adjustment",
    ),
    "a first entry that does not start at zero": (
        "UPDATE adjustment SET before_quantity = 1, delta = delta - 1"
        " WHERE sku = 'A' AND sequence = 1",
        "before_quantity of adjustment",
    ),
    "an entry older than its predecessor": (
        "UPDATE adjustment SET created_at = '2020-01-01T00:00:00.000Z'"
        " WHERE sku = 'A' AND sequence = 2",
        "created_at of adjustment",
    ),
    "an entry belongs to a level that does not exist": (
        "UPDATE adjustment SET warehouse_id = 'wh_gone' WHERE sku = 'B'",
        "on_hand of stock level (B, ",
    ),
    "an additional entry of a missing level": (
        "INSERT INTO adjustment (tenant_id, position, id, sku, warehouse_id, sequence,"
        " before_quantity, after_quantity, delta, reason, created_by, created_at, hash)"
        " SELECT tenant_id, 99, 'adj_x', sku, 'wh_gone', sequence, before_quantity,"
        " after_quantity, delta, reason, created_by, '2999-01-01T00:00:00.000Z', hash"
        " FROM adjustment WHERE sku = 'B'",
        "the number of adjustments that belong to a stock level",
    ),
    "a transfer has one half": (
        "UPDATE adjustment SET transfer_id = 'trf_1' WHERE sku = 'B'",
        "transfer trf_1 of SKU B has 1 adjustments",
    ),
    "another quantity on hand": (
        "UPDATE stock_level SET on_hand = 31 WHERE sku = 'A'",
        "on_hand of stock level (A, ",
    ),
    "a level has another version": (
        "UPDATE stock_level SET version = 4 WHERE sku = 'A'",
        "version of stock level (A, ",
    ),
    "a level was adjusted at another time": (
        "UPDATE stock_level SET adjusted_at = '2026-06-01T00:00:00.000Z' WHERE sku = 'A'",
        "adjusted_at of stock level (A, ",
    ),
    "the last change of a level occurred at another time": (
        "UPDATE stock_level SET occurred_until = '2026-06-01T00:00:00.000Z' WHERE sku = 'A'",
        "occurred_until of stock level (A, ",
    ),
    "a level has another status": (
        "UPDATE stock_level SET status = 'low' WHERE sku = 'A'",
        "status of stock level (A, ",
    ),
    "a level has a negative reservation": (
        "UPDATE stock_level SET reserved = -1 WHERE sku = 'A'",
        "negative quantity",
    ),
    "a SKU is archived, and its levels are not": (
        "UPDATE sku SET archived_at = '2026-06-01T00:00:00.000Z' WHERE sku = 'A'",
        "archived_at of stock level (A, ",
    ),
    "a SKU has another status": (
        "UPDATE sku SET status = 'critical' WHERE sku = 'A'",
        "status of SKU A",
    ),
    "a SKU has another available quantity": (
        "UPDATE sku SET available = available + 1 WHERE sku = 'A'",
        "available of SKU A",
    ),
    "a level belongs to a SKU that does not exist": (
        "UPDATE stock_level SET sku = 'Z' WHERE sku = 'C'",
        "the number of stock levels that have a SKU",
    ),
    "a count of a missing SKU": (
        "UPDATE sku_count SET skus = skus + 1 WHERE warehouse_id = '' AND status = 'normal'",
        "count of normal SKUs in all warehouses",
    ),
    "a count of a warehouse is gone": (
        "DELETE FROM sku_count WHERE warehouse_id <> '' AND status = 'normal'",
        "count of normal SKUs in wh_",
    ),
}


@pytest.fixture
async def shop(own_database_url: str) -> AsyncIterator[Service]:
    """Service on its own database: three SKUs, one of them counted three times."""
    async with running(own_database_url) as (app, client):
        database = app.state.database
        shop = Service(app, client, database, await new_tenant(database))
        main = warehouse()
        history = [counted(10), counted(20), counted(30, "2026-01-02T00:00:00Z")]
        await shop.load(
            [main],
            [
                sku("A", LoadedLevel(warehouse_id=main.id, history=history)),
                sku("B", level(main, 5)),
                sku("C", LoadedLevel(warehouse_id=main.id)),
            ],
        )
        yield shop


async def test_an_intact_ledger_is_verified_and_counted(shop: Service) -> None:
    proof = await verify_tenant(shop.database, shop.tenant_id)

    assert (proof.skus, proof.stock_levels, proof.adjustments, proof.counts) == (3, 3, 4, 4)


@pytest.mark.parametrize("what", BREAKS)
async def test_a_break_is_found_and_named(shop: Service, what: str) -> None:
    statement, named = BREAKS[what]
    await change_behind_its_back(shop, statement)
    if "adjustment" in statement:
        # Changed entries with a wrong hash are tested in `test_chain`.
        await rehash(shop)

    with pytest.raises(LedgerBroken) as error:
        await verify_tenant(shop.database, shop.tenant_id)
    assert named in str(error.value)


async def test_a_break_of_another_tenant_is_ignored(shop: Service) -> None:
    other = await new_tenant(shop.database)
    await change_behind_its_back(shop, "UPDATE stock_level SET version = 4 WHERE sku = 'A'")

    assert (await verify_tenant(shop.database, other)).stock_levels == 0


# Figures that are derived from the ledger and can be derived again.
REPAIRED = (
    "another quantity on hand",
    "a level was adjusted at another time",
    "a level has another status",
    "a SKU has another status",
    "a count of a missing SKU",
    "a count of a warehouse is gone",
)


@pytest.mark.parametrize("what", REPAIRED)
async def test_a_derived_figure_is_repaired_and_named(shop: Service, what: str) -> None:
    statement, named = BREAKS[what]
    await change_behind_its_back(shop, statement)

    await verify_ledger(shop.database, shop.tenant_id)
    repaired = await repair_tenant(shop.database, shop.tenant_id)
    assert any(named in repair for repair in repaired), repaired
    assert (await verify_tenant(shop.database, shop.tenant_id)).adjustments == 4
    assert await repair_tenant(shop.database, shop.tenant_id) == []


@pytest.mark.parametrize(
    "what",
    ["an entry is gone from the middle", "the last entry is gone", "a transfer has one half"],
)
async def test_a_broken_ledger_is_not_accepted(shop: Service, what: str) -> None:
    await change_behind_its_back(shop, BREAKS[what][0])
    await rehash(shop)

    with pytest.raises(LedgerBroken):
        await verify_ledger(shop.database, shop.tenant_id)


async def test_a_repair_counts_archived_skus_separately(shop: Service) -> None:
    await shop.data('mutation { archiveSku(input: {sku: "A"}) { replayed } }', token="admin")
    await change_behind_its_back(shop, "UPDATE sku_count SET skus = skus + 1")
    await change_behind_its_back(shop, "UPDATE stock_level SET archived_at = NULL")

    repaired = await repair_tenant(shop.database, shop.tenant_id)

    assert any("archived_at of stock level (A, " in repair for repair in repaired)
    assert any("archived_" in repair and "count of" in repair for repair in repaired)
    await verify_tenant(shop.database, shop.tenant_id)


async def test_a_repair_during_writes_leaves_correct_figures(shop: Service) -> None:
    async with shop.database.snapshot() as snapshot:
        statement = text("SELECT warehouse_id FROM stock_level WHERE sku = 'A'")
        [[warehouse_id]] = await snapshot.rows(statement, {})
    await change_behind_its_back(shop, BREAKS["a count of a warehouse is gone"][0])

    async def adjust(delta: int) -> None:
        change = {"sku": "C", "warehouseId": warehouse_id, "delta": delta, "reason": "correction"}
        await shop.data(ADJUST, {"input": change})

    await adjust(1)
    changes = [adjust(1) for _ in range(10)]
    await asyncio.gather(*changes[:5], repair_tenant(shop.database, shop.tenant_id), *changes[5:])
    assert (await verify_tenant(shop.database, shop.tenant_id)).adjustments == 4 + 11


async def test_the_command_lists_its_repairs(shop: Service) -> None:
    url = shop.database.url.render_as_string(hide_password=False)
    await change_behind_its_back(shop, BREAKS["another quantity on hand"][0])

    done = await asyncio.to_thread(run, "verify", "--repair", database_url=url)
    assert done.returncode == 0, done.stderr
    assert ": repaired: on_hand of stock level (A, " in done.stderr
    summary, head = done.stdout.splitlines()
    assert summary.endswith("All add up.")
    assert head.startswith(f"head_1.{shop.tenant_id}.")
