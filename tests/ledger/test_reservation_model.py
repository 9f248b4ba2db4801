"""Reservations and counts in any order, compared with a model."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.filters import ReservationFilter
from app.domain.records import ReservationStatus
from app.domain.reservations import RequestedLine
from app.domain.stock import StockUpdate
from app.errors import InventoryError
from app.files.seeding import load_skus, load_warehouses
from app.ledger.verification import verify_tenant
from app.reads.reservations import (
    count_holds_of,
    count_reservations,
    get_reservations,
    list_reservations,
    sum_held,
)
from app.reads.skus import get_skus
from app.settings import Settings
from app.writes.expiry import expire_reservations
from app.writes.pipeline import WriteContext
from app.writes.reservations import (
    AmendRequest,
    CommitRequest,
    CommittedLine,
    ReserveRequest,
    amend_reservation,
    commit_reservation,
    extend_reservation,
    release_reservation,
    reserve_stock,
)
from app.writes.stock import change_stock
from tests.clocks import set_clock
from tests.ledger.reservations import MAIN, OTHER
from tests.service import EMAIL, level, new_tenant, now, sku

Result = TypeVar("Result")
CODES: Final = ("A", "B")
WAREHOUSES: Final = (MAIN, OTHER)
# SKUs, warehouses and stock levels, each as (SKU, warehouse id).
STOCK: Final = [*product((None, *CODES), (None, *(record.id for record in WAREHOUSES)))][1:]
LEVELS: Final = [(code, record.id) for code in CODES for record in WAREHOUSES]


@dataclass
class Held:
    """A reservation in the model."""

    lines: dict[tuple[str, str], int]
    expires_after: int
    status: ReservationStatus = ReservationStatus.OPEN


def requested(lines: dict[tuple[str, str], int]) -> tuple[RequestedLine, ...]:
    return tuple(RequestedLine(code, (id_,), quantity) for (code, id_), quantity in lines.items())


def of_stock(key: tuple[str | None, str | None]) -> ReservationFilter:
    code, id_ = key
    return ReservationFilter(sku=code, warehouse_id=id_, status=ReservationStatus.OPEN)


def is_of(level: tuple[str, str], key: tuple[str | None, str | None]) -> bool:
    return all(part in (None, value) for part, value in zip(key, level, strict=True))


class Machine(RuleBasedStateMachine):
    """Writes in any order, compared with a model that stores only its inputs."""

    database: Database
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.tenant_id = self.run(new_tenant(self.database))
        self.writing = WriteContext(
            database=self.database, caller=Caller(self.tenant_id, "machine", EMAIL)
        )
        self.start = now()
        self.second = 0
        self.on_hand = dict.fromkeys(LEVELS, 6)
        self.held: dict[str, Held] = {}
        self.tick(0)

        async def load(session: Any) -> None:
            await load_warehouses(session, self.tenant_id, WAREHOUSES)
            skus = [sku(code, *(level(record, 6) for record in WAREHOUSES)) for code in CODES]
            await load_skus(session, self.tenant_id, skus)

        self.run(self.database.transaction(load))

    def tick(self, seconds: int) -> None:
        self.second += seconds
        self.run(set_clock(self.database, self.start + timedelta(seconds=self.second)))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def refused(self, work: Coroutine[Any, Any, Any]) -> str | None:
        return self.outcome(work)[0]

    def outcome(self, work: Coroutine[Any, Any, Result]) -> tuple[str | None, Result | None]:
        """Return the code of a refusal, or the result."""
        try:
            return None, self.run(work)
        except InventoryError as error:
            return error.code, None

    def reserved(self, key: tuple[str, str]) -> int:
        return sum(held.lines[key] for held in self.holding(key))

    def holding(self, key: tuple[str, str]) -> list[Held]:
        return [
            held
            for held in self.held.values()
            if held.status is ReservationStatus.OPEN and key in held.lines
        ]

    def expire_in_model(self) -> int:
        due = [
            held
            for held in self.held.values()
            if held.status is ReservationStatus.OPEN and held.expires_after <= self.second
        ]
        for held in due:
            held.status = ReservationStatus.EXPIRED
        return len(due)

    def chosen(self, number: int) -> tuple[str, Held] | None:
        """Reservation number `number` with its id; None if none exists."""
        if not self.held:
            return None
        id_ = [*self.held][number % len(self.held)]
        return id_, self.held[id_]

    def is_open(self, held: Held) -> bool:
        return held.status is ReservationStatus.OPEN and held.expires_after > self.second

    def assert_ended(self, held: Held, refused: str | None) -> None:
        """Check the refusal of a reservation that has ended; a due one expires by it."""
        assert refused == "RESERVATION_ENDED"
        if held.status is ReservationStatus.OPEN:
            held.status = ReservationStatus.EXPIRED

    @rule(
        lines=st.dictionaries(st.sampled_from(LEVELS), st.integers(1, 5), min_size=1),
        seconds=st.integers(1, 20),
    )
    def reserve(self, lines: dict[tuple[str, str], int], seconds: int) -> None:
        self.expire_in_model()
        fits = all(
            quantity <= self.on_hand[key] - self.reserved(key) for key, quantity in lines.items()
        )
        wanted = ReserveRequest(
            lines=requested(lines),
            seconds=seconds,
        )
        if not fits:
            assert self.refused(reserve_stock(self.writing, wanted)) == "INSUFFICIENT_STOCK"
            return
        done = self.run(reserve_stock(self.writing, wanted))
        self.held[done.result.reservation.id] = Held(lines, self.second + seconds)

    @rule(number=st.integers(0, 99), share=st.sampled_from([None, 1, 2]), keep_rest=st.booleans())
    def commit(self, number: int, share: int | None, *, keep_rest: bool) -> None:
        if not (chosen := self.chosen(number)):
            return
        id_, held = chosen
        taken = {key: max(1, q // share) if share else q for key, q in held.lines.items()}
        lines = None if share is None else tuple(CommittedLine(*key, q) for key, q in taken.items())
        wanted = CommitRequest(id=id_, lines=lines, reason="sale", keep_rest=keep_rest)
        refused, done = self.outcome(commit_reservation(self.writing, wanted))
        if not self.is_open(held):
            self.assert_ended(held, refused)
        elif any(q > self.on_hand[key] for key, q in taken.items()):
            assert refused == "NEGATIVE_QUANTITY"
        else:
            assert refused is None
            held.status = ReservationStatus.COMMITTED
            for key, quantity in taken.items():
                self.on_hand[key] -= quantity
            rest = {key: q - taken[key] for key, q in held.lines.items() if q > taken[key]}
            assert done is not None
            successor = done.result.successor
            assert (successor is not None) is (keep_rest and bool(rest))
            if successor is not None:
                self.held[successor.id] = Held(rest, held.expires_after)

    @rule(
        number=st.integers(0, 99),
        lines=st.dictionaries(st.sampled_from(LEVELS), st.integers(1, 5), min_size=1),
    )
    def amend(self, number: int, lines: dict[tuple[str, str], int]) -> None:
        if not (chosen := self.chosen(number)):
            return
        id_, held = chosen
        fits = all(
            quantity <= held.lines.get(key, 0)
            or quantity <= self.on_hand[key] - self.reserved(key) + held.lines.get(key, 0)
            for key, quantity in lines.items()
        )
        wanted = AmendRequest(id=id_, lines=requested(lines))
        refused = self.refused(amend_reservation(self.writing, wanted))
        if not self.is_open(held):
            self.assert_ended(held, refused)
        elif not fits:
            assert refused == "INSUFFICIENT_STOCK"
        else:
            assert refused is None
            held.lines = lines

    @rule(number=st.integers(0, 99))
    def release(self, number: int) -> None:
        if not (chosen := self.chosen(number)):
            return
        id_, held = chosen
        refused = self.refused(release_reservation(self.writing, id_))
        if self.is_open(held):
            assert refused is None
            held.status = ReservationStatus.RELEASED
        else:
            self.assert_ended(held, refused)

    @rule(number=st.integers(0, 99), seconds=st.integers(1, 20))
    def extend(self, number: int, seconds: int) -> None:
        if not (chosen := self.chosen(number)):
            return
        id_, held = chosen
        refused = self.refused(extend_reservation(self.writing, id_, seconds))
        if self.is_open(held):
            assert refused is None
            held.expires_after = max(held.expires_after, self.second + seconds)
        else:
            self.assert_ended(held, refused)

    @rule(key=st.sampled_from(LEVELS), quantity=st.integers(0, 12))
    def count(self, key: tuple[str, str], quantity: int) -> None:
        """Count a level; the quantity may be less than the reserved quantity."""
        update = StockUpdate(
            sku=key[0], warehouse_id=key[1], quantity=quantity, reason="cycle_count"
        )
        self.run(change_stock(self.database, self.writing.caller, update))
        self.on_hand[key] = quantity

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.tick(seconds)

    @rule()
    def expire(self) -> None:
        assert (
            self.run(expire_reservations(self.database, self.tenant_id)) == self.expire_in_model()
        )

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self.run(self._compare())

    async def _compare(self) -> None:
        await verify_tenant(self.database, self.tenant_id)
        async with self.database.snapshot() as snapshot:
            skus = await get_skus(snapshot, self.tenant_id, codes=CODES)
            kept = await get_reservations(snapshot, self.tenant_id, ids=[*self.held])
            holds = await count_holds_of(snapshot, self.tenant_id, levels=LEVELS)
            held = {
                key: await sum_held(snapshot, self.tenant_id, where=of_stock(key)) for key in STOCK
            }
            listed = {
                key: await list_reservations(
                    snapshot, self.tenant_id, where=of_stock(key), limit=100
                )
                for key in STOCK
            }
            numbers = {
                status: await count_reservations(
                    snapshot, self.tenant_id, where=ReservationFilter(status=status)
                )
                for status in (None, *ReservationStatus)
            }
        levels = [it for record in skus.values() for it in record.levels]
        assert {(it.sku, it.warehouse.id): (it.on_hand, it.reserved) for it in levels} == {
            key: (self.on_hand[key], self.reserved(key)) for key in LEVELS
        }
        statuses = Counter(it.status for it in self.held.values())
        assert numbers.pop(None) == statuses.total()
        assert numbers == {it: statuses[it] for it in ReservationStatus}
        assert holds == {key: len(self.holding(key)) for key in LEVELS}
        for key in STOCK:
            lines = {
                id_: [quantity for level, quantity in it.lines.items() if is_of(level, key)]
                for id_, it in self.held.items()
                if it.status is ReservationStatus.OPEN
            }
            assert held[key] == sum(map(sum, lines.values()))
            assert [it.id for it in listed[key]] == sorted(
                (id_ for id_, quantities in lines.items() if quantities), reverse=True
            )
        assert {id_: it.status for id_, it in kept.items()} == {
            id_: it.status for id_, it in self.held.items()
        }


def test_reserved_equals_the_sum_of_open_reservations_after_any_writes(
    database_url: str,
) -> None:
    database = Database(Settings(database_url=database_url))
    with asyncio.Runner() as runner:
        Machine.database, Machine.runner = database, runner
        run_state_machine_as_test(
            Machine,
            settings=settings(
                derandomize=True,
                deadline=None,
                max_examples=20,
                stateful_step_count=30,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(set_clock(database, None))
        runner.run(database.dispose())
