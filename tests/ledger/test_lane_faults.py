"""What one write of a batch meets, or all, does not change what becomes of the others."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import pytest

from app.database.session import Session
from app.domain.records import AdjustmentRecord
from app.domain.stock import Changes, Stock, decide
from app.errors import InventoryError, QueryTooComplex, Unavailable
from app.runtime import deadlines
from app.runtime.batches import Pending
from app.runtime.deadlines import Deadline, Limit, OutOfTime, Uncertain, current_limit, out_of_time
from app.runtime.request_id import current_request_id
from app.writes.catalogue import update_warehouse
from app.writes.decisions import Decision, Needs, Write
from app.writes.idempotency_keys import WriteRequest
from app.writes.lane import QueuedWrite, run_batch
from app.writes.stock import change_stock, decision_of, needs_of
from tests.faults.injection import MakeError, postgresql_error, sqlite_error
from tests.ledger.lane import (
    MAIN,
    OTHER,
    Writing,
    adding,
    broken_call,
    caller,
    codes_of,
    context,
    counted_commits,
    decided,
    setting,
    together,
)
from tests.ledger.writes import assert_proven, entries, ledger
from tests.service import Service, level, sku

# Entries that the database refuses.
Break = Callable[[AdjustmentRecord, AdjustmentRecord], AdjustmentRecord]
BREAKS: Final[dict[str, Break]] = {
    "a broken CHECK constraint": lambda entry, _: replace(entry, before_quantity=-1),
    "a taken id": lambda entry, first: replace(entry, id=first.id),
    "a taken sequence": lambda entry, _: replace(entry, sequence=1),
    "an unknown level": lambda entry, _: replace(entry, warehouse_id="wh_unknown"),
}
# A fault without a retry, and one that may have taken effect.
REFUSED: Final[dict[str, MakeError]] = {
    "postgresql": postgresql_error("53100"),
    "sqlite": sqlite_error("SQLITE_FULL"),
}
LOST: Final[dict[str, MakeError]] = {
    "postgresql": postgresql_error("08006"),
    "sqlite": sqlite_error("SQLITE_IOERR"),
}


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service whose SKU A has 5 in the main warehouse, and whose SKU B has none."""
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 5)), sku("B", level(OTHER, 5))])
    return service


def write(service: Service, delta: int = 1, key: str | None = None) -> Writing:
    return change_stock(service.database, caller(service), adding(delta), key=key)


async def first_entry(service: Service) -> AdjustmentRecord:
    entry: AdjustmentRecord = (await write(service, 0)).result.adjustment
    return entry


def poisoned(
    service: Service, break_: Break, first: AdjustmentRecord, key: str | None = None
) -> Writing:
    """Write an entry that the database refuses, with a change of SKU B."""
    updates = [setting(9, "B", OTHER.id)]

    def decide_poison(stock: Stock) -> Decision[Any]:
        [outcome] = decide(caller(service), updates, stock)
        decision = decision_of("poison", [outcome])
        [entry] = decision.changes.entries
        return Decision(
            "poison", Changes(skus=decision.changes.skus, entries=[break_(entry, first)])
        )

    return decided(context(service, key), decide_poison, needs_of(updates))


@pytest.mark.parametrize("position", [0, 1, 4, 8])
@pytest.mark.parametrize("kind", BREAKS)
async def test_changes_that_the_database_refuses_are_an_error_of_their_write_alone(
    stocked: Service, kind: str, position: int
) -> None:
    first = await first_entry(stocked)
    writes = [write(stocked) for _ in range(8)]
    writes.insert(position, poisoned(stocked, BREAKS[kind], first))

    outcomes = await together(stocked, *writes)

    failed = outcomes.pop(position)
    assert isinstance(failed, Exception)
    assert not isinstance(failed, InventoryError)
    assert codes_of(outcomes) == [None] * 8
    assert await ledger(stocked, "A") == entries(5, 5, *range(6, 14))
    assert await ledger(stocked, "B") == entries(5)
    await assert_proven(stocked)


async def test_a_batch_of_refused_changes_alone_gives_each_write_its_own_error(
    stocked: Service,
) -> None:
    first = await first_entry(stocked)

    failed = await together(stocked, *(poisoned(stocked, it, first) for it in BREAKS.values()))

    assert all(isinstance(each, Exception) for each in failed)
    assert len({id(each) for each in failed}) == len({str(each) for each in failed}) == len(BREAKS)
    assert await ledger(stocked, "B") == entries(5)
    await assert_proven(stocked)


async def test_keys_are_kept_for_the_writes_that_a_halved_batch_has_done(
    stocked: Service,
) -> None:
    first = await first_entry(stocked)
    poison = BREAKS["a taken id"]
    keyed = [write(stocked, 1, key=f"k{number % 3}") for number in range(6)]

    *done, failed = await together(stocked, *keyed, poisoned(stocked, poison, first, key="p"))
    again = [await write(stocked, 1, key=f"k{number}") for number in range(3)]
    # No outcome is kept for the failed write, so its key is free for another request.
    free = await write(stocked, 1, key="p")

    assert [it.replayed for it in done] == [False] * 3 + [True] * 3
    assert [it.result for it in done] == [it.result for it in done[:3]] * 2
    assert isinstance(failed, Exception)
    assert [(it.replayed, it.result) for it in again] == [(True, it.result) for it in done[:3]]
    assert not free.replayed
    assert await ledger(stocked, "A") == entries(5, 5, 6, 7, 8, 9)
    await assert_proven(stocked)


async def test_a_refusal_while_reading_rows_is_that_of_its_write_alone(stocked: Service) -> None:
    async def find(_session: Session) -> Needs:
        message = "Too many rows."
        raise QueryTooComplex(message)

    finding = decided(context(stocked), needs=Needs(find=find))
    outcomes = await together(stocked, write(stocked), finding, write(stocked))

    assert codes_of(outcomes) == [None, "QUERY_TOO_COMPLEX", None]
    assert await ledger(stocked, "A") == entries(5, 6, 7)


async def test_few_changes_of_warehouses_are_in_one_batch_as_each_touches_every_sku(
    stocked: Service,
) -> None:
    names = [{"name": f"Main {number}"} for number in range(60)]

    with counted_commits() as commits:
        outcomes = await together(
            stocked, *(update_warehouse(context(stocked), MAIN.id, name) for name in names)
        )

    assert codes_of(outcomes) == [None] * 60
    assert len(commits) == 1 + 2


async def in_time(limit: Limit, work: Writing) -> Any:
    """Run a write of a request with a time limit."""
    current_limit.set(limit)
    return await work


async def test_a_write_whose_time_is_over_is_not_done_and_takes_no_other_along(
    stocked: Service,
) -> None:
    over = Limit(stocked.database.watch, 1, ends_at=time.monotonic())
    with counted_commits() as commits:
        one, late, another = await together(
            stocked, write(stocked), in_time(over, write(stocked, 100)), write(stocked)
        )

    assert isinstance(late, OutOfTime)
    assert not isinstance(late, Uncertain)
    assert codes_of([one, another]) == [None, None]
    assert len(commits) == 2
    assert await ledger(stocked, "A") == entries(5, 6, 7)
    await assert_proven(stocked)


async def test_a_deadline_within_a_transaction_is_that_of_its_write_alone(
    stocked: Service,
) -> None:
    async def never(_session: Session) -> Needs:
        await asyncio.Event().wait()
        return Needs()

    limit = Limit(stocked.database.watch, 0.1)
    limit.restart()
    slow = in_time(limit, decided(context(stocked), needs=Needs(find=never)))
    patient = Limit(stocked.database.watch, 600)
    patient.restart()

    one, late, another = await together(
        stocked, write(stocked), slow, in_time(patient, write(stocked))
    )

    assert isinstance(late, OutOfTime)
    assert not isinstance(late, Uncertain)
    assert codes_of([one, another]) == [None, None]
    assert await ledger(stocked, "A") == entries(5, 6, 7)
    await assert_proven(stocked)


class SlowDatabase:
    """A database whose every transaction takes some seconds of a made-up clock."""

    def __init__(self, clock: SimpleNamespace, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self.ended = 0

    async def write(
        self, work: Any, _tenant_id: str, deadline: Deadline, **_options: Any
    ) -> tuple[list[Any], int]:
        ends_at = self.clock.now + self.seconds
        if deadline.ends_at < ends_at:
            self.clock.now = deadline.ends_at
            self.ended += 1
            raise out_of_time(deadline.seconds)
        self.clock.now = ends_at
        _tenant_id, writes = work.args
        return [None for _ in writes], 0


async def test_deadlines_that_follow_each_other_do_not_end_every_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(deadlines, "time", SimpleNamespace(monotonic=lambda: clock.now))
    made_up: Any = SlowDatabase(clock, seconds=5)
    request = WriteRequest("test", None, object)
    decided_: Write[Any] = Write(
        caller=None,  # type: ignore[arg-type]
        key=None,
        request=request,
        needs=Needs(),
        decide=lambda _: Decision(None),
    )
    batch = [
        Pending(QueuedWrite(decided_, Deadline(second, 60), 0), 1, asyncio.Future())
        for second in range(64)
    ]

    await run_batch(made_up, "t", batch)

    assert made_up.ended
    errors = [pending.result.exception() for pending in batch]
    assert all(isinstance(error, OutOfTime) for error in errors if error)
    # Those with the most time at least.
    assert errors[32:] == [None] * 32


async def gathered(service: Service, number: int = 3) -> Sequence[Any]:
    """Send writes that a free lane takes as one batch."""
    writes = (write(service, 1, key=f"k{it}" if it % 2 else None) for it in range(number))
    return await asyncio.gather(*writes, return_exceptions=True)


def assert_each_has_an_error(outcomes: Sequence[Any], type_: type[Exception]) -> None:
    """Assert that outcomes are errors of a type, each an object of its own."""
    for error in outcomes:
        assert isinstance(error, type_)
        assert isinstance(error, Uncertain) is (type_ is Uncertain)
    assert len({id(error) for error in outcomes}) == len(outcomes)


async def test_a_fault_at_a_statement_makes_every_write_of_the_batch_unavailable(
    stocked: Service,
) -> None:
    with broken_call("rows", REFUSED[stocked.database.dialect]), counted_commits() as commits:
        outcomes = await gathered(stocked)

    assert_each_has_an_error(outcomes, Unavailable)
    assert not commits
    assert await ledger(stocked, "A") == entries(5)
    assert codes_of(await gathered(stocked)) == [None] * 3
    await assert_proven(stocked)


async def test_a_write_and_its_key_are_stored_together(stocked: Service) -> None:
    quantity = 5
    for after in range(20):
        with broken_call("rows", REFUSED[stocked.database.dialect], after=after):
            [outcome] = await asyncio.gather(
                write(stocked, 1, key=f"k{after}"), return_exceptions=True
            )
        is_done = not isinstance(outcome, Unavailable)
        again = await write(stocked, 1, key=f"k{after}")
        assert again.replayed is is_done
        quantity += 1
        assert again.result.adjustment.after_quantity == quantity
        if is_done:
            break

    # The key and the stock, the SKU, the level, the adjustment, and the key.
    assert after >= 5
    assert await ledger(stocked, "A") == entries(*range(5, quantity + 1))
    await assert_proven(stocked)


async def test_a_lost_connection_at_a_statement_repeats_the_batch(stocked: Service) -> None:
    with broken_call("rows", ConnectionResetError), counted_commits() as commits:
        outcomes = await gathered(stocked)

    assert codes_of(outcomes) == [None] * 3
    assert len(commits) == 1
    assert await ledger(stocked, "A") == entries(5, 6, 7, 8)
    await assert_proven(stocked)


@pytest.mark.parametrize("lost", ["request", "response"])
@pytest.mark.parametrize("kind", ["fault", "unknown"])
async def test_an_error_at_the_commit_makes_every_write_of_the_batch_uncertain(
    stocked: Service, kind: str, lost: str
) -> None:
    # A fault of the driver, for example.
    unknown: MakeError = lambda: AttributeError("made up")  # noqa: E731
    make = unknown if kind == "unknown" else LOST[stocked.database.dialect]
    is_done = lost == "response"

    with broken_call("commit", make, is_done=is_done), counted_commits() as commits:
        outcomes = await gathered(stocked)

    assert_each_has_an_error(outcomes, Uncertain)
    assert not commits
    assert await ledger(stocked, "A") == (entries(5, 6, 7, 8) if is_done else entries(5))
    # The key answers whether the write is done.
    again = await write(stocked, 1, key="k1")
    assert again.replayed is is_done
    await assert_proven(stocked)


async def test_a_fault_at_the_commit_that_wrote_nothing_makes_every_write_unavailable(
    stocked: Service,
) -> None:
    with broken_call("commit", REFUSED[stocked.database.dialect]):
        outcomes = await gathered(stocked)

    assert_each_has_an_error(outcomes, Unavailable)
    assert await ledger(stocked, "A") == entries(5)
    assert codes_of(await gathered(stocked)) == [None] * 3
    await assert_proven(stocked)


async def test_log_lines_of_a_batch_name_a_request_only_if_it_is_alone(stocked: Service) -> None:
    seen: list[str] = []

    def look(_stock: Stock) -> Decision[Any]:
        seen.append(current_request_id.get())
        return Decision(0)

    async def requested(id_: str) -> Any:
        current_request_id.set(id_)
        return await decided(context(stocked), look)

    await asyncio.create_task(requested("alone"))
    await together(stocked, requested("one"), requested("another"))
    await together(stocked, requested("last"))

    assert seen == ["alone", "", "", "last"]


async def test_a_closing_database_finishes_the_writes_that_wait(stocked: Service) -> None:
    writes = [asyncio.create_task(write(stocked)) for _ in range(3)]
    while not stocked.database.lanes._queues:
        await asyncio.sleep(0)

    await stocked.database.dispose()

    assert all(task.done() for task in writes)
    assert codes_of(await asyncio.gather(*writes)) == [None] * 3
    assert await ledger(stocked, "A") == entries(5, 6, 7, 8)
