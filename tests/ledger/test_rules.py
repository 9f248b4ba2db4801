"""A write is decided by the rules at its posting, not by earlier ones.

Every kind of write is held before each of its statements while every kind of rule changes. A change
that is acknowledged before the posting decides the write; one that waits for the write does not.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import Text, bindparam, text, update

from app.database.engine import Database
from app.database.tables import reservation
from app.domain.caller import Caller
from app.domain.reservations import RequestedLine
from app.domain.stock import OnError, StockUpdate
from app.domain.warehouses import WarehouseType
from app.errors import InventoryError
from app.files.columns import FileKind
from app.files.imports import FileRefused
from app.settings import Settings
from app.writes.catalogue import (
    SafetyStock,
    SkuChange,
    change_sku,
    set_safety_stock,
    update_warehouse,
)
from app.writes.expiry import expire_reservations
from app.writes.marketplace_sync import ReportedLevel, StockReport, sync_stock
from app.writes.pipeline import WriteContext
from app.writes.reservations import (
    CommitRequest,
    ReserveRequest,
    commit_reservation,
    extend_reservation,
    release_reservation,
    reserve_stock,
)
from app.writes.reversals import Reversal, reverse_adjustments
from app.writes.stock import bulk_change_stock, change_stock
from app.writes.tenants import update_permissions
from app.writes.transfers import Transfer, TransferLine, transfer_stock
from tests.engines import transact, writer_of
from tests.files.importing import imported
from tests.ledger.holding import HOLD, Hold, holding
from tests.ledger.writes import assert_proven
from tests.service import Service, level, new_tenant, now, sku, warehouse

MAIN: Final = warehouse()
SOURCE: Final = warehouse("Source")
MARKET: Final = warehouse("Market", WarehouseType.FBA)
# More SKUs than one statement writes.
CODES: Final = [f"SKU-{number:02}" for number in range(12)]
IS_WAITING: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock'"
)
WRITTEN: Final = text(
    "SELECT 1 FROM adjustment WHERE tenant_id = :tenant AND after_quantity > 20 LIMIT 1"
).bindparams(bindparam("tenant", type_=Text))


@dataclass(frozen=True)
class World:
    """A tenant with stock, a loss that can be reversed, and an open reservation.

    Another process changes the rules: within one process, writes of a SKU wait for each other.
    """

    service: Service
    other: Database
    loss: str
    held: str

    @property
    def writing(self) -> WriteContext:
        caller = Caller(self.service.tenant_id, "writer", "a@b.example")
        return WriteContext(database=self.service.database, caller=caller)

    @property
    def changing(self) -> WriteContext:
        return replace(self.writing, database=self.other)


Step = Callable[[World], Coroutine[Any, Any, Any]]


def setting(code: str = "SKU-00") -> StockUpdate:
    return StockUpdate(sku=code, warehouse_id=MAIN.id, quantity=50, reason="cycle_count")


async def set_(world: World) -> Any:
    return await change_stock(world.service.database, world.writing.caller, setting())


async def set_with_key(world: World) -> Any:
    return await change_stock(world.service.database, world.writing.caller, setting(), key="k")


async def adjust(world: World) -> Any:
    change = StockUpdate(sku="SKU-00", warehouse_id=MAIN.id, delta=1, reason="loss")
    return await change_stock(world.service.database, world.writing.caller, change)


async def bulk(world: World) -> Any:
    return await bulk_change_stock(
        world.service.database,
        world.writing.caller,
        [setting(code) for code in CODES],
        on_error=OnError.ABORT,
    )


async def transfer(world: World) -> Any:
    lines = (TransferLine("SKU-00", 1),)
    moved = Transfer(source=SOURCE.id, destination=MAIN.id, lines=lines, reason="move")
    return await transfer_stock(world.service.database, world.writing.caller, moved)


async def reserve(world: World, quantity: int = 5, *, may_oversell: bool = False) -> Any:
    lines = (RequestedLine("SKU-00", (MAIN.id,), quantity),)
    return await reserve_stock(
        world.writing, ReserveRequest(lines=lines, seconds=60, may_oversell=may_oversell)
    )


async def oversell(world: World) -> Any:
    return await reserve(world, 50, may_oversell=True)


async def commit(world: World) -> Any:
    wanted = CommitRequest(id=world.held, lines=None, reason="sold")
    return await commit_reservation(world.writing, wanted)


async def release(world: World) -> Any:
    return await release_reservation(world.writing, world.held)


async def extend(world: World) -> Any:
    return await extend_reservation(world.writing, world.held, 600)


async def expire(world: World) -> Any:
    return await expire_reservations(world.service.database, world.service.tenant_id)


async def reverse(world: World) -> Any:
    wanted = Reversal(adjustment_id=world.loss, bulk_id=None, transfer_id=None, reason="correction")
    return await reverse_adjustments(world.writing, wanted)


async def sync(world: World) -> Any:
    report = StockReport(
        warehouse_id=MARKET.id,
        reported_at=now(),
        levels=tuple(ReportedLevel(code, 50) for code in CODES),
        on_error=OnError.ABORT,
    )
    return await sync_stock(world.writing, report, is_admin=True)


async def keep_safe(world: World) -> Any:
    return await set_safety_stock(world.writing, [SafetyStock("SKU-00", MAIN.id, 2)])


async def rename(world: World) -> Any:
    return await change_sku(world.writing, "updateSku", SkuChange(sku="SKU-00", title="Other"))


async def import_counts(world: World) -> Any:
    content = "sku,warehouse_id,quantity\n" + "".join(f"{it},{MAIN.id},50\n" for it in CODES)
    return await imported(world.service.database, world.service.tenant_id, content, FileKind.COUNTS)


async def deactivate(world: World) -> Any:
    await update_warehouse(world.changing, MARKET.id, {"is_active": False})
    return await update_warehouse(world.changing, MAIN.id, {"is_active": False})


async def make_unsellable(world: World) -> Any:
    return await update_warehouse(world.changing, MAIN.id, {"is_sellable": False})


async def import_inactive(world: World) -> Any:
    rows = [f"{it.id},{it.name},{it.type},false\n" for it in (MARKET, MAIN)]
    content = "id,name,type,is_active\n" + "".join(rows)
    return await imported(world.other, world.service.tenant_id, content, FileKind.WAREHOUSES)


async def archive(world: World) -> Any:
    return await change_sku(world.changing, "archiveSku", SkuChange(sku="SKU-00", is_archived=True))


async def withdraw(world: World) -> Any:
    return await update_permissions(world.other, world.service.tenant_id, oversell=False)


async def raise_safety(world: World) -> Any:
    return await set_safety_stock(world.changing, [SafetyStock("SKU-00", MAIN.id, 9)])


WRITES: Final[Mapping[str, Step]] = {
    it.__name__: it
    for it in (
        *(set_, set_with_key, adjust, bulk, transfer, reserve, oversell, commit, release, extend),
        *(expire, reverse, sync, keep_safe, rename, import_counts),
    )
}
FILLING: Final = ("set_", "set_with_key", "adjust", "bulk", "transfer", "reverse", "sync")
RESERVING: Final = ("reserve", "oversell")
FILE: Final = {"import_counts": "VALIDATION_ERROR"}
INACTIVE: Final = dict.fromkeys((*FILLING, *RESERVING), "WAREHOUSE_INACTIVE") | FILE
# The change of each rule, and the error code of each write after it.
RULES: Final[Mapping[str, tuple[Step, Mapping[str, str | None]]]] = {
    "a deactivated warehouse": (deactivate, dict.fromkeys(WRITES) | INACTIVE),
    "a warehouse that a file deactivates": (
        import_inactive,
        {it: INACTIVE[it] for it in ("set_", "bulk", "reserve")},
    ),
    "a warehouse that is not sellable": (
        make_unsellable,
        dict.fromkeys(RESERVING, "WAREHOUSE_NOT_SELLABLE")
        | dict.fromkeys(("set_", "transfer", "commit", "release")),
    ),
    "an archived SKU": (archive, dict.fromkeys(INACTIVE, "SKU_ARCHIVED") | FILE),
    "oversell withdrawn": (withdraw, {"oversell": "OVERSELL_NOT_PERMITTED"}),
    "a raised safety stock": (
        raise_safety,
        {"reserve": "INSUFFICIENT_STOCK", "oversell": None, "keep_safe": None},
    ),
}
CASES: Final = [(rule, write) for rule, (_, codes) in RULES.items() for write in codes]


async def made(service: Service, other: Database, write: str) -> World:
    """Create a world in a new tenant."""
    own = Service(service.app, service.client, service.database, await new_tenant(service.database))
    skus = [sku(it, level(MAIN, 10), level(SOURCE, 10), level(MARKET, 10)) for it in CODES]
    await own.load([MAIN, SOURCE, MARKET], skus)
    await update_permissions(own.database, own.tenant_id, oversell=True)
    writing = World(own, other, "", "").writing
    loss = StockUpdate(sku="SKU-00", warehouse_id=MAIN.id, delta=-1, reason="loss")
    done = await change_stock(own.database, writing.caller, loss)
    assert done.result.adjustment is not None
    lines = (RequestedLine("SKU-00", (MAIN.id,), 2),)
    held = await reserve_stock(writing, ReserveRequest(lines=lines, seconds=60))
    world = World(own, other, done.result.adjustment.id, held.result.reservation.id)
    if write == "expire":
        await transact(
            own.database,
            lambda connection: connection.execute(
                update(reservation)
                .where(reservation.c.id == world.held)
                .values(expires_at=now() - timedelta(hours=1))
            ),
        )
    return world


async def outcome(work: Coroutine[Any, Any, Any]) -> str | None:
    """Error code of a refusal, or None."""
    try:
        await work
    except FileRefused:
        return "VALIDATION_ERROR"
    except InventoryError as error:
        return error.code
    return None


async def held_write(hold: Hold, work: Coroutine[Any, Any, Any]) -> str | None:
    HOLD.set(hold)
    return await outcome(work)


async def ended_or_waiting(service: Service, change: asyncio.Task[Any]) -> None:
    """Wait until a change has ended or waits for the held write."""
    if service.database.dialect == "sqlite":
        # On SQLite the transaction of the only writer keeps all others out.
        if not service.database._write_pool.in_use:
            await asyncio.wait([change])
        return
    # A transaction would see the same activity again and again.
    async with writer_of(service.database).connect() as connection:
        watching = await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not change.done() and not await watching.scalar(IS_WAITING):
            await asyncio.sleep(0)


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Database]:
    """Return the database as another process opens it."""
    database = Database(Settings(database_url=database_url, database_pool_timeout_seconds=60))
    yield database
    await database.dispose()


@pytest.mark.parametrize(("rule", "name"), CASES)
async def test_a_write_is_decided_by_the_rules_at_its_posting(
    service: Service, other: Database, rule: str, name: str
) -> None:
    change, codes = RULES[rule]
    before = 0
    while True:
        world, hold = await made(service, other, name), Hold(before)
        with holding():
            write = asyncio.create_task(held_write(hold, WRITES[name](world)))
            reached = asyncio.create_task(hold.is_reached.wait())
            await asyncio.wait([write, reached], return_when=asyncio.FIRST_COMPLETED)
            if not hold.is_reached.is_set():
                reached.cancel()
                break
            changing = asyncio.create_task(change(world))
            await ended_or_waiting(service, changing)
            is_changed = changing.done()
            hold.may_go_on.set()
            result = await write
            await changing
        assert result == (codes[name] if is_changed else None), before
        # SQLite has one writer: all moments after the first statement are the same.
        before += 1 if service.database.dialect == "postgresql" else 100
    assert await write is None
    assert before > 0
    await assert_proven(world.service)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_warehouse_under_constant_writes_can_be_deactivated(
    service: Service, other: Database
) -> None:
    world = await made(service, other, "set_")
    writer = world.writing.caller

    async def fill(code: str) -> int:
        done = 0
        while (
            await outcome(
                change_stock(service.database, writer, replace(setting(code), quantity=11 + done))
            )
            is None
        ):
            done += 1
        return done

    writes = [asyncio.create_task(fill(code)) for code in CODES[:6]]
    while not await service.database.rows(WRITTEN, {"tenant": world.service.tenant_id}, share=None):
        await asyncio.sleep(0)
    await deactivate(world)
    assert sum(await asyncio.gather(*writes)) > 0
