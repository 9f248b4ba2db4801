"""Every change of history is detected: by its hashes, or by a head that was kept elsewhere."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import pytest
from sqlalchemy import select

from app.database.tables import adjustment
from app.domain.caller import Caller
from app.domain.hash_chain import HASHED_COLUMNS, Head, chain_hash, parse_head
from app.domain.persons import person_id
from app.domain.stock import StockUpdate
from app.errors import ValidationFailed
from app.files.seeding import LoadedLevel
from app.ledger.repair import repair_tenant
from app.ledger.replay import LedgerBroken
from app.ledger.verification import verify_ledger, verify_tenant
from app.writes.statements import ADJUSTMENT_TYPES
from app.writes.stock import change_stock
from tests.clocks import fake_clock, set_clock
from tests.ledger.behind import change_behind_its_back, rehash
from tests.processes import run
from tests.service import EMAIL, Service, counted, level, new_tenant, running, sku, warehouse

MAIN = warehouse()
OTHER = warehouse("Other")
FIRST = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
async def shop(own_database_url: str) -> AsyncIterator[Service]:
    """Service on its own database: two SKUs in two warehouses, with histories of last year."""
    async with running(own_database_url) as (app, client):
        database = app.state.database
        await fake_clock(database)
        shop = Service(app, client, database, await new_tenant(database))
        history = [
            counted(10, "2026-01-01T00:00:00Z", note="the first"),
            counted(20, "2026-01-02T00:00:00Z", reason="cycle_count"),
            counted(30, "2026-01-03T00:00:00Z", reason="cycle_count", note="the last"),
        ]
        other = [counted(40), counted(50), counted(60)]
        await shop.load(
            [MAIN, OTHER],
            [
                sku(
                    "A",
                    LoadedLevel(warehouse_id=MAIN.id, history=history),
                    LoadedLevel(warehouse_id=OTHER.id, history=other),
                ),
                sku("B", level(MAIN, 5)),
            ],
        )
        yield shop


async def head_of(shop: Service) -> Head:
    """Head of the tenant, formatted and parsed."""
    proof = await verify_tenant(shop.database, shop.tenant_id)
    return parse_head(proof.head)


def caller_of(shop: Service) -> Caller:
    """Caller of the test's writes."""
    return Caller(shop.tenant_id, "tok_1", EMAIL)


def counting(quantity: int, code: str = "A") -> StockUpdate:
    """Count of a SKU in the main warehouse."""
    return StockUpdate(sku=code, warehouse_id=MAIN.id, quantity=quantity, reason="cycle_count")


def test_the_hash_covers_every_column_and_is_stable() -> None:
    entry = dict.fromkeys(HASHED_COLUMNS) | {
        "position": 3,
        "id": "adj_1",
        "sequence": 1,
        "after_quantity": 10**12,
        "note": '"\\\b\f\n\r\t\x01\x1f\x7f / é \u2028 \U0001f600',
        "created_at": "2026-01-01T00:00:00.000Z",
    }
    *columns, last = HASHED_COLUMNS
    values = [None, "acme", *(entry[name] for name in columns)]
    canonical = json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    assert set(HASHED_COLUMNS) == set(adjustment.c.keys()) - {"tenant_id", "hash"}
    assert list(ADJUSTMENT_TYPES) == [*HASHED_COLUMNS, "hash"]
    assert chain_hash(None, "acme", entry) == hashlib.sha256(canonical.encode()).hexdigest()
    # The last column is left out if it is null.
    dated = [*values, "2026-01-01T00:00:00.000Z"]
    whole = json.dumps(dated, ensure_ascii=False, separators=(",", ":"))
    hash_ = hashlib.sha256(whole.encode()).hexdigest()
    assert chain_hash(None, "acme", {**entry, last: dated[-1]}) == hash_
    # From the first release on, this hash may not change: heads that are kept elsewhere stay valid.
    vector = "1fe75a190baf4a2f58baa19e9a6cfdb79966b43370ab0cab369a1f7935acc1d6"
    assert chain_hash("ab", "acme", entry) == vector


@pytest.mark.parametrize("column", HASHED_COLUMNS)
async def test_a_change_of_any_column_of_any_entry_is_found(shop: Service, column: str) -> None:
    changed = {
        "position": "position + 10",
        "sequence": "sequence + 10",
        **{name: f"{name} + 1" for name in ("before_quantity", "after_quantity", "delta")},
        "created_at": "'2026-01-02T12:00:00.001Z'",
        "occurred_at": "'2026-01-02T12:00:00.001Z'",
    }
    value = changed.get(column, f"coalesce({column}, '') || 'x'")
    async with shop.database.snapshot() as snapshot:
        ids = [row.id for row in await snapshot.rows(select(adjustment.c.id), {})]
    for id_ in ids:
        copy = "CREATE TABLE kept AS SELECT * FROM adjustment"
        change = f"UPDATE adjustment SET {column} = {value} WHERE id = '{id_}'"
        await change_behind_its_back(shop, copy, change)

        for verify in (verify_tenant, verify_ledger):
            with pytest.raises(LedgerBroken):
                await verify(shop.database, shop.tenant_id)

        back = "INSERT INTO adjustment SELECT * FROM kept"
        await change_behind_its_back(shop, "DELETE FROM adjustment", back, "DROP TABLE kept")
    await verify_tenant(shop.database, shop.tenant_id)


async def test_the_changed_entry_is_named(shop: Service) -> None:
    await change_behind_its_back(
        shop, "UPDATE adjustment SET note = 'forged' WHERE sku = 'A' AND sequence = 2"
    )

    with pytest.raises(LedgerBroken, match=r"of \(A, wh_.*\) is not as it was written") as error:
        await verify_tenant(shop.database, shop.tenant_id)
    async with shop.database.snapshot() as snapshot:
        second = select(adjustment.c.id).where(adjustment.c.sequence == 2)
        rows = await snapshot.rows(second.order_by(adjustment.c.position), {})
    assert rows[0].id in str(error.value)


IN_MAIN = f"sku = 'A' AND warehouse_id = '{MAIN.id}'"
IN_OTHER = f"sku = 'A' AND warehouse_id = '{OTHER.id}'"
# Forgeries by an attacker who knows all derived figures.
FORGED = {
    "a note is changed": [
        f"UPDATE adjustment SET note = 'forged' WHERE {IN_MAIN} AND sequence = 2"
    ],
    "another author": [
        "INSERT INTO person (tenant_id, id, email, salt) SELECT DISTINCT tenant_id,"
        f" '{person_id('eve@example.com', 's')}', 'eve@example.com', 's' FROM adjustment"
        f" WHERE {IN_OTHER}",
        f"UPDATE adjustment SET created_by = '{person_id('eve@example.com', 's')}'"
        f" WHERE {IN_OTHER} AND sequence = 1",
    ],
    "another count": [
        f"UPDATE adjustment SET after_quantity = 25, delta = 15 WHERE {IN_MAIN} AND sequence = 2",
        f"UPDATE adjustment SET before_quantity = 25, delta = 5 WHERE {IN_MAIN} AND sequence = 3",
    ],
    "another time": [
        "UPDATE adjustment SET created_at = '2026-01-02T00:00:00.001Z'"
        f" WHERE {IN_MAIN} AND sequence = 2"
    ],
    "the last entry is gone": [f"DELETE FROM adjustment WHERE {IN_MAIN} AND sequence = 3"],
    "an entry is gone from the middle": [
        f"DELETE FROM adjustment WHERE {IN_MAIN} AND sequence = 2",
        "UPDATE adjustment SET sequence = 2, before_quantity = 10, delta = 20"
        f" WHERE {IN_MAIN} AND sequence = 3",
    ],
    "the history of a level is gone": [f"DELETE FROM adjustment WHERE {IN_OTHER}"],
    "a SKU is gone": [
        f"DELETE FROM {table} WHERE sku = 'B'" for table in ("adjustment", "stock_level", "sku")
    ],
    "an entry is added to the past": [
        "UPDATE adjustment SET position = 90, sequence = 4, before_quantity = 29, delta = 1"
        f" WHERE {IN_MAIN} AND sequence = 3",
        "INSERT INTO adjustment (tenant_id, position, id, sku, warehouse_id, sequence,"
        " before_quantity, after_quantity, delta, reason, created_by, created_at, hash)"
        " SELECT tenant_id, 80, 'adj_x', sku, warehouse_id, 3, 20, 29, 9, reason, created_by,"
        " created_at, hash FROM adjustment WHERE position = 90",
    ],
    "two entries are swapped": [
        f"UPDATE adjustment SET position = 99, sequence = 9 WHERE {IN_OTHER} AND sequence = 1",
        "UPDATE adjustment SET position = 2, sequence = 1, before_quantity = 0, delta = 50"
        f" WHERE {IN_OTHER} AND sequence = 2",
        "UPDATE adjustment SET position = 3, sequence = 2, before_quantity = 50, delta = -10"
        " WHERE position = 99",
        f"UPDATE adjustment SET before_quantity = 40, delta = 20 WHERE {IN_OTHER} AND sequence = 3",
    ],
    "two levels are swapped": [
        f"UPDATE adjustment SET warehouse_id = 'wh_x' WHERE {IN_MAIN}",
        f"UPDATE adjustment SET warehouse_id = '{MAIN.id}' WHERE {IN_OTHER}",
        f"UPDATE adjustment SET warehouse_id = '{OTHER.id}' WHERE warehouse_id = 'wh_x'",
    ],
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_rehashed_history_is_detected_only_by_a_head(shop: Service, what: str) -> None:
    head = await head_of(shop)
    await verify_tenant(shop.database, shop.tenant_id, head=head)
    await change_behind_its_back(shop, *FORGED[what])
    with pytest.raises(LedgerBroken):
        await verify_tenant(shop.database, shop.tenant_id)

    await rehash(shop)
    await repair_tenant(shop.database, shop.tenant_id)

    await verify_tenant(shop.database, shop.tenant_id)
    for verify in (verify_tenant, verify_ledger):
        with pytest.raises(LedgerBroken, match="has been changed since its head was taken"):
            await verify(shop.database, shop.tenant_id, head=head)


async def test_later_entries_do_not_hide_a_changed_entry(shop: Service) -> None:
    await change_behind_its_back(shop, "UPDATE adjustment SET note = 'forged' WHERE sku = 'B'")
    await change_stock(shop.database, caller_of(shop), counting(7, "B"))

    with pytest.raises(LedgerBroken, match=r"of \(B, .* is not as it was written"):
        await verify_tenant(shop.database, shop.tenant_id)


@pytest.mark.parametrize("where", ["at the end", "in the middle"])
async def test_a_missing_entry_is_found_without_the_figures(shop: Service, where: str) -> None:
    position = 7 if where == "at the end" else 3
    await change_behind_its_back(shop, f"DELETE FROM adjustment WHERE position = {position}")

    for verify in (verify_tenant, verify_ledger):
        with pytest.raises(LedgerBroken):
            await verify(shop.database, shop.tenant_id)


async def test_a_head_covers_every_entry_at_once(shop: Service) -> None:
    before = await head_of(shop)
    await change_stock(shop.database, caller_of(shop), counting(7))
    after = await head_of(shop)

    assert (before.position, after.position) == (7, 8)
    for head in (before, after):
        await verify_tenant(shop.database, shop.tenant_id, head=head)


async def test_a_head_covers_one_tenant(shop: Service) -> None:
    other = await new_tenant(shop.database)
    head = parse_head((await verify_tenant(shop.database, other)).head)

    assert (head.tenant_id, head.position) == (other, 0)
    await verify_tenant(shop.database, other, head=head)


async def test_heads_taken_during_writes_stay_valid(shop: Service) -> None:
    heads: list[Head] = []
    moments = cycle((400, -300))

    async def write(code: str) -> None:
        for quantity in range(1, 101):
            await change_stock(shop.database, caller_of(shop), counting(quantity, code))
            await set_clock(shop.database, FIRST + timedelta(days=next(moments)))

    async def take() -> None:
        heads.extend([await head_of(shop) for _ in range(20)])

    await set_clock(shop.database, FIRST)
    await asyncio.gather(*(write(code) for code in "ABAB"), take())

    heads.append(await head_of(shop))
    await set_clock(shop.database, None)
    for head in heads:
        await verify_tenant(shop.database, shop.tenant_id, head=head)
    assert heads[-1].position == 407
    assert len({head.position for head in heads}) > 3


HEAD = Head("acme", 7, "ab" * 32)


def test_a_head_is_formatted_and_parsed() -> None:
    assert str(HEAD) == f"head_1.acme.7.{'ab' * 32}"
    assert parse_head(f" {HEAD}\n") == HEAD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "head_1",
        str(HEAD)[:-1],
        str(HEAD).upper(),
        str(HEAD).replace("head_1", "head_2"),
        str(HEAD).replace(".7.", ".-7."),
        str(HEAD).replace("acme", "../acme"),
        f"{HEAD}{HEAD}",
    ],
)
def test_a_malformed_head_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed, match=r"head must be what `inventory verify` printed"):
        parse_head(text)


async def test_the_command_prints_a_head_and_checks_the_ledger_against_it(shop: Service) -> None:
    url = shop.database.url.render_as_string(hide_password=False)

    async def verify(*options: str) -> Any:
        return await asyncio.to_thread(run, "verify", *options, database_url=url)

    summary, head = (await verify()).stdout.splitlines()
    assert summary.endswith("7 adjustments, 3 counts. All add up.")
    held = await verify("--head", head)
    assert held.returncode == 0, held.stderr
    assert "Its first 7 adjustments are unchanged since the head was taken." in held.stdout
    in_json = json.loads((await verify("--head", head, "--json")).stdout)
    assert parse_head(in_json[0]["head"]).position == 7

    other = await verify("--head", head, "--tenant", "acme")
    assert (other.returncode, other.stdout) == (2, "")
    unknown = await verify("--head", str(HEAD))
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "There is no tenant acme" in unknown.stderr

    await change_behind_its_back(shop, *FORGED["a note is changed"])
    await rehash(shop)
    await repair_tenant(shop.database, shop.tenant_id)
    forged = await verify("--head", head, "--repair")
    assert (forged.returncode, forged.stdout) == (1, "")
    assert "up to position 7 has been changed since its head was taken" in forged.stderr
