"""Writes of a tenant that wait for each other are one transaction, and each has its own outcome."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pytest
from sqlalchemy import text

from app.database.engine import Database
from app.domain.reservations import RequestedLine
from app.domain.stock import OnError, Stock, StockUpdate
from app.errors import AlreadyReversed, IdempotencyKeyReused, InventoryError
from app.runtime import batches
from app.writes.catalogue import SkuChange, change_sku, create_sku, update_warehouse
from app.writes.decisions import Decision
from app.writes.expiry import expire_reservations
from app.writes.reservations import (
    CommitRequest,
    ReserveRequest,
    commit_reservation,
    release_reservation,
    reserve_stock,
)
from app.writes.reversals import Reversal, reverse_adjustments
from app.writes.stock import bulk_change_stock, change_stock
from tests.engines import writer_of
from tests.ledger.lane import (
    MAIN,
    OTHER,
    Writing,
    adding,
    another_process,
    caller,
    codes_of,
    context,
    counted_commits,
    decided,
    held_commit,
    holding_lane,
    queued,
    setting,
    together,
    waiting,
)
from tests.ledger.writes import assert_proven, entries, ledger
from tests.service import Service, level, new_tenant, sku, warehouse

TENANT_LOCK: Final = text("SELECT 1 FROM tenant WHERE tenant_id = :tenant FOR UPDATE")
IS_WAITING: Final = text(
    "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
)
RESERVED: Final = "01J00000000000000000000000"


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service whose SKU A has 5 in the main warehouse, and whose SKU B has none."""
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 5)), sku("B")])
    return service


def write(
    service: Service, change: StockUpdate, key: str | None = None, database: Database | None = None
) -> Writing:
    return change_stock(database or service.database, caller(service), change, key=key)


def reserve(service: Service, quantity: int, code: str = "A") -> Writing:
    lines = (RequestedLine(code, (MAIN.id,), quantity),)
    return reserve_stock(context(service), ReserveRequest(lines=lines, seconds=60))


def commit(service: Service, id_: str) -> Writing:
    return commit_reservation(context(service), CommitRequest(id=id_, lines=None, reason="sold"))


def archive(service: Service, code: str = "A", *, is_archived: bool = True) -> Writing:
    change = SkuChange(sku=code, is_archived=is_archived)
    return change_sku(context(service), "archiveSku", change)


def reverse(service: Service, **ids: str) -> Writing:
    known = {"adjustment_id": None, "bulk_id": None, "transfer_id": None}
    return reverse_adjustments(context(service), Reversal(**{**known, **ids}, reason="correction"))


async def test_concurrent_writes_of_one_sku_are_one_transaction_with_a_dense_chain(
    stocked: Service,
) -> None:
    changes = [adding(1) if number % 2 else setting(number) for number in range(64)]

    with counted_commits() as commits:
        done = await asyncio.gather(*(write(stocked, change) for change in changes))

    assert len(commits) == 1
    adjustments = [it.result.adjustment for it in done]
    assert [it.sequence for it in adjustments] == [*range(2, 66)]
    assert await ledger(stocked, "A") == entries(5, *range(64))
    assert [it.result.sku.version for it in done] == [*range(3, 67)]
    await assert_proven(stocked)


async def test_a_refused_write_changes_nothing_for_the_others_of_its_batch(
    stocked: Service,
) -> None:
    async def refused() -> Any:
        updates = [adding(3), adding(9, "B"), setting(-1, "A", OTHER.id)]
        return await bulk_change_stock(
            stocked.database, caller(stocked), updates, on_error=OnError.ABORT
        )

    with counted_commits() as commits:
        outcomes = await together(
            stocked,
            write(stocked, adding(2)),
            write(stocked, adding(-100)),
            refused(),
            write(stocked, setting(1, "NOPE")),
            reserve(stocked, 8),
            write(stocked, adding(1)),
            write(stocked, adding(1, "B")),
        )

    refusals = ["NEGATIVE_QUANTITY", "NEGATIVE_QUANTITY", "INVENTORY_NOT_FOUND"]
    assert codes_of(outcomes) == [None, *refusals, "INSUFFICIENT_STOCK", None, None]
    # The first is that of the holder.
    assert len(commits) == 2
    assert await ledger(stocked, "A") == entries(5, 7, 8)
    assert await ledger(stocked, "B") == entries(1)
    await assert_proven(stocked)


async def test_writes_of_a_batch_see_the_effects_of_those_before_them(
    stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.writes.reservations.ulid", lambda _now: RESERVED)

    with counted_commits() as commits:
        created, is_set, held, sold, archived, renamed, refused, last = await together(
            stocked,
            create_sku(context(stocked), "NEW", "New"),
            write(stocked, setting(7, "NEW")),
            reserve(stocked, 5, "NEW"),
            commit(stocked, f"rsv_{RESERVED}"),
            archive(stocked, "NEW"),
            update_warehouse(context(stocked), MAIN.id, {"name": "Renamed"}),
            write(stocked, setting(9, "NEW")),
            write(stocked, setting(1, "NEW")),
        )

    assert len(commits) == 2
    assert created.result.version == 1
    assert is_set.result.adjustment.after_quantity == 7
    [reserved] = held.result.skus
    assert (reserved.figures.reserved, reserved.figures.available) == (5, 2)
    assert [(it.before_quantity, it.after_quantity) for it in sold.result.adjustments] == [(7, 2)]
    assert archived.result.archived_at is not None
    assert renamed.result.name == "Renamed"
    assert codes_of([refused]) == ["SKU_ARCHIVED"]
    assert last.result.sku.levels[0].warehouse.name == "Renamed"
    assert await ledger(stocked, "NEW") == entries(7, 2, 1)
    data = await stocked.data(
        '{ sku(sku: "NEW") { version isArchived stock { onHand reserved warehouse { name } } } }'
    )
    stock = [{"onHand": 1, "reserved": 0, "warehouse": {"name": "Renamed"}}]
    assert data["sku"] == {"version": 7, "isArchived": True, "stock": stock}
    await assert_proven(stocked)


async def test_a_warehouse_that_is_closed_in_a_batch_takes_nothing_after_it(
    stocked: Service,
) -> None:
    close, open_ = ({"is_active": is_active} for is_active in (False, True))

    outcomes = await together(
        stocked,
        write(stocked, adding(1)),
        update_warehouse(context(stocked), MAIN.id, close),
        write(stocked, adding(1)),
        reserve(stocked, 1),
        write(stocked, adding(1, "B")),
        write(stocked, adding(-2)),
        update_warehouse(context(stocked), MAIN.id, open_),
        write(stocked, adding(3)),
    )

    closed = "WAREHOUSE_INACTIVE"
    assert codes_of(outcomes) == [None, None, closed, closed, closed, None, None, None]
    assert await ledger(stocked, "A") == entries(5, 6, 4, 7)
    await assert_proven(stocked)


async def test_a_write_after_a_rename_in_its_batch_has_the_new_name(stocked: Service) -> None:
    outcomes = await together(
        stocked,
        write(stocked, adding(1)),
        update_warehouse(context(stocked), MAIN.id, {"name": "Renamed"}),
        write(stocked, adding(1)),
    )

    levels = [outcomes[index].result.sku.level_in(MAIN.id) for index in (0, 2)]
    assert [level.warehouse.name for level in levels] == [MAIN.name, "Renamed"]
    assert [level.on_hand for level in levels] == [6, 7]


async def test_a_sku_that_is_archived_and_restored_in_a_batch_is_listed_with_its_levels(
    stocked: Service,
) -> None:
    outcomes = await together(
        stocked,
        archive(stocked),
        write(stocked, adding(-1)),
        archive(stocked, is_archived=False),
        archive(stocked, "B"),
    )

    assert codes_of(outcomes) == [None] * 4
    listed = {"warehouse_id": MAIN.id}
    response = await stocked.rest("GET", "/api/inventory", params=listed)
    assert [it["sku"] for it in response.json()["data"]] == ["A"]
    assert response.json()["meta"]["total"] == 1
    await assert_proven(stocked)


async def test_a_reservation_that_is_opened_and_ended_in_a_batch_leaves_no_hold(
    stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.writes.reservations.ulid", lambda _now: RESERVED)

    outcomes = await together(
        stocked,
        reserve(stocked, 4),
        release_reservation(context(stocked), f"rsv_{RESERVED}"),
        commit(stocked, f"rsv_{RESERVED}"),
        write(stocked, adding(1)),
    )

    assert codes_of(outcomes) == [None, None, "RESERVATION_ENDED", None]
    data = await stocked.data(
        '{ sku(sku: "A") { totalReserved stock { reservations { totalCount } } }'
        " all: reservations { totalCount }"
        " open: reservations(filter: {status: OPEN}) { totalCount } }"
    )
    stock = [{"reservations": {"totalCount": 0}}]
    assert data["sku"] == {"totalReserved": 0, "stock": stock}
    assert (data["all"]["totalCount"], data["open"]["totalCount"]) == (1, 0)
    await assert_proven(stocked)


async def test_a_due_reservation_expires_once_in_a_batch(
    stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = (await reserve(stocked, 2)).result.reservation
    monkeypatch.setattr("app.writes.expiry.is_due", lambda held, _now: held.version == 1)
    due = [held.id]

    async def list_due(*_: object, **__: object) -> Sequence[str]:
        return [due.pop()] if due else []

    monkeypatch.setattr("app.writes.expiry.list_due_reservations", list_due)
    first = expire_reservations(stocked.database, stocked.tenant_id)
    expired, released = await together(
        stocked, first, release_reservation(context(stocked), held.id)
    )

    assert expired == 1
    assert codes_of([released]) == ["RESERVATION_ENDED"]
    monkeypatch.undo()
    await assert_proven(stocked)


async def test_an_adjustment_is_reversed_once_in_a_batch(stocked: Service) -> None:
    bulk = [adding(2), adding(3, "B")]
    done = await bulk_change_stock(stocked.database, caller(stocked), bulk, on_error=OnError.ABORT)
    [first, _] = [it.change.adjustment for it in done.result if it.change]
    assert first is not None
    bulk_id = str(first.bulk_id)

    outcomes = await together(
        stocked,
        reverse(stocked, adjustment_id=first.id),
        reverse(stocked, adjustment_id=first.id),
        reverse(stocked, bulk_id=bulk_id),
    )

    assert codes_of(outcomes) == [None, "ALREADY_REVERSED", "ALREADY_REVERSED"]
    [change] = outcomes[0].result
    for refusal in outcomes[1:]:
        assert isinstance(refusal, AlreadyReversed)
        assert refusal.details == [{"id": first.id, "reversed_by": change.adjustment.id}]
    assert await ledger(stocked, "A") == entries(5, 7, 5)
    assert await ledger(stocked, "B") == entries(3)
    await assert_proven(stocked)


async def test_a_key_twice_in_a_batch_has_one_effect_and_one_answer(stocked: Service) -> None:
    sent = [write(stocked, adding(2), key="k") for _ in range(3)]
    other = write(stocked, adding(3), key="k")
    refused = [write(stocked, adding(-9), key="refused") for _ in range(2)]

    *done, reused, first, again = await together(stocked, *sent, other, *refused)

    assert [it.replayed for it in done] == [False, True, True]
    assert done[1].result == done[2].result == done[0].result
    assert isinstance(reused, IdempotencyKeyReused)
    assert codes_of([first, again]) == ["NEGATIVE_QUANTITY"] * 2
    assert [it.replayed for it in (first, again)] == [False, True]
    assert (first.message, first.details) == (again.message, again.details)
    assert await ledger(stocked, "A") == entries(5, 7)
    later = await write(stocked, adding(2), key="k")
    assert (later.replayed, later.result) == (True, done[0].result)
    await assert_proven(stocked)


async def test_a_refusal_that_is_raised_is_not_kept_under_its_key(stocked: Service) -> None:
    def refuse(_stock: Stock) -> Decision[Any]:
        message = "Not now."
        raise InventoryError(message)

    keyed = context(stocked, key="k")
    raised, done, again = await together(
        stocked, decided(keyed, refuse), decided(keyed), decided(keyed, refuse)
    )

    assert isinstance(raised, InventoryError)
    assert (done, again) == (0, 0)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, StopIteration, RecursionError])
async def test_an_error_in_a_decision_reaches_its_caller_alone(
    stocked: Service, error: type[Exception]
) -> None:
    def fail(_stock: Stock) -> Decision[Any]:
        raise error

    with counted_commits() as commits:
        before, failed, keyed, after = await together(
            stocked,
            write(stocked, adding(1)),
            decided(context(stocked), fail),
            decided(context(stocked, key="k"), fail),
            write(stocked, adding(1)),
        )

    assert len(commits) == 2
    for each in (failed, keyed):
        assert isinstance(each, error) or isinstance(each.__cause__, error)
    assert codes_of([before, after]) == [None, None]
    assert after.result.adjustment.after_quantity == 7
    assert await ledger(stocked, "A") == entries(5, 6, 7)
    await assert_proven(stocked)


async def test_no_outcome_is_returned_before_the_commit(stocked: Service) -> None:
    def fail(_stock: Stock) -> Decision[Any]:
        raise ZeroDivisionError

    writes = (
        write(stocked, adding(1)),
        write(stocked, adding(-99), key="refused"),
        write(stocked, adding(1), key="k"),
        write(stocked, adding(1), key="k"),
        decided(context(stocked), fail),
    )
    with held_commit() as held:
        tasks = [asyncio.create_task(each) for each in writes]
        await held.is_reached.wait()
        read = await stocked.rest("GET", "/api/inventory/A")
        are_done = [task.done() for task in tasks]
        held.may_go_on.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert are_done == [False] * 5
    assert read.json()["data"]["total_on_hand"] == 5
    assert codes_of(outcomes) == [None, "NEGATIVE_QUANTITY", None, None, None]
    assert await ledger(stocked, "A") == entries(5, 6, 7)


async def test_a_cancelled_write_is_done_or_not_and_harms_no_other(stocked: Service) -> None:
    async with holding_lane(stocked):
        tasks = await queued(stocked, [write(stocked, adding(number)) for number in (1, 10, 100)])
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        assert waiting(stocked.database, stocked.tenant_id) == 2
    await asyncio.gather(*tasks, return_exceptions=True)
    with held_commit() as held:
        more = [asyncio.create_task(write(stocked, adding(number))) for number in (2, 20, 200)]
        await held.is_reached.wait()
        more[0].cancel()
        more[1].cancel()
        await asyncio.wait(more[:2])
        held.may_go_on.set()
        last = await more[2]

    assert tasks[1].cancelled()
    assert more[0].cancelled()
    # A write that waited is not done; one whose batch had begun is.
    assert last.result.adjustment.after_quantity == 5 + 1 + 100 + 222
    assert await ledger(stocked, "A") == entries(5, 6, 106, 108, 128, 328)
    await assert_proven(stocked)


async def test_a_first_caller_that_is_cancelled_leaves_the_lane_to_the_others(
    stocked: Service,
) -> None:
    first, second = (asyncio.create_task(write(stocked, adding(it))) for it in (1, 10))
    await asyncio.sleep(0)
    first.cancel()

    done = (await second).result.adjustment.after_quantity

    assert done in (15, 16)
    assert (await write(stocked, adding(100))).result.adjustment.after_quantity == done + 100
    await stocked.database.lanes.finish()
    assert not stocked.database.lanes._queues
    assert not stocked.database.lanes._tasks


async def test_writes_of_two_processes_never_lose_one(stocked: Service, database_url: str) -> None:
    async def client(database: Database) -> None:
        for _ in range(5):
            await write(stocked, adding(1), database=database)

    async with another_process(database_url) as one, another_process(database_url) as two:
        with counted_commits() as commits:
            await asyncio.gather(*(client(database) for database in (one, two) * 8))

    assert len(commits) < 5 * 8 * 2
    assert await ledger(stocked, "A") == entries(*range(5, 86))
    await assert_proven(stocked)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_write_is_decided_on_the_stock_that_another_process_left(
    stocked: Service, database_url: str
) -> None:
    async with another_process(database_url) as other:
        with held_commit() as held:
            first = asyncio.create_task(write(stocked, adding(2), database=other))
            await held.is_reached.wait()
            second = asyncio.create_task(write(stocked, adding(3)))
            async with writer_of(stocked.database).connect() as watching:
                blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = :event")
                while not await watching.scalar(blocked, {"event": "transactionid"}):
                    assert not second.done()
                    await watching.rollback()
            held.may_go_on.set()
            await first
        done = await second

    assert done.result.adjustment.before_quantity == 7
    assert await ledger(stocked, "A") == entries(5, 7, 10)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_tenants_do_not_wait_for_each_other(stocked: Service) -> None:
    free = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    main = warehouse()
    await free.load([main], [sku("A", level(main, 5))])
    async with writer_of(stocked.database).connect() as other:
        await other.execute(TENANT_LOCK, {"tenant": stocked.tenant_id})
        held = asyncio.create_task(write(stocked, adding(1)))
        while not await other.scalar(IS_WAITING):
            assert not held.done()
        done = [await write(free, adding(1, "A", main.id)) for _ in range(3)]
        assert not held.done()
        await other.rollback()

    assert [it.result.adjustment.after_quantity for it in done] == [6, 7, 8]
    assert (await held).result.adjustment.after_quantity == 6


async def test_a_bulk_of_500_is_written_beside_single_writes(service: Service) -> None:
    codes = [f"SKU-{number:03}" for number in range(500)]
    await service.load([MAIN], [sku(code) for code in codes])
    updates = [setting(7, code) for code in codes]
    before, after = ([write(service, adding(1, code)) for code in codes[:50]] for _ in range(2))
    bulk = bulk_change_stock(service.database, caller(service), updates, on_error=OnError.ABORT)

    with counted_commits() as commits:
        outcomes = await together(service, *before, bulk, *after)

    assert codes_of(outcomes) == [None] * 101
    assert len(commits) == 2
    changes = [it.change for it in outcomes[50].result]
    assert [it.adjustment.before_quantity for it in changes] == [1] * 50 + [0] * 450
    assert [it.result.adjustment.after_quantity for it in outcomes[51:]] == [8] * 50
    await assert_proven(service)


async def test_batches_have_a_maximum_size(
    stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A write of one SKU has size 2.
    monkeypatch.setattr(batches, "MAX_BATCH_SIZE", 10)

    with counted_commits() as commits:
        outcomes = await together(stocked, *(write(stocked, adding(1)) for _ in range(23)))

    assert codes_of(outcomes) == [None] * 23
    assert len(commits) == 1 + 5
    assert await ledger(stocked, "A") == entries(*range(5, 29))


async def test_few_reversals_are_in_one_batch_as_each_may_read_hundreds_of_skus(
    stocked: Service,
) -> None:
    done = [await write(stocked, adding(1)) for _ in range(12)]
    ids = [it.result.adjustment.id for it in done]

    with counted_commits() as commits:
        outcomes = await together(stocked, *(reverse(stocked, adjustment_id=id_) for id_ in ids))

    assert codes_of(outcomes) == [None] * 12
    assert len(commits) == 1 + 2
    await assert_proven(stocked)
