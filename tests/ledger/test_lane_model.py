"""Batches of random writes from two processes, compared with a model that adds up numbers."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import pytest
from sqlalchemy import Text, bindparam, text

from app.database.engine import Database
from app.domain.caller import Caller
from app.domain.stock import OnError
from app.errors import InventoryError
from app.reads.reservations import get_reservations
from app.reads.skus import get_skus
from app.runtime.batches import Batches
from app.writes import lane
from app.writes.pipeline import WriteContext
from tests.ledger.feed import assert_followed, follower_of
from tests.ledger.lane import another_process, holding_lane
from tests.ledger.lane_model import (
    MAIN,
    MARKET,
    OTHER,
    REFERENCE,
    UNKNOWN,
    WAREHOUSES,
    Archive,
    Bulk,
    Change,
    End,
    Held,
    Keep,
    Level,
    Model,
    Move,
    Op,
    Reorder,
    Reserve,
    Step,
    Turn,
)
from tests.service import Service, sku

CODES: Final = tuple(f"SKU-{number}" for number in range(6))
ROUNDS: Final = 12
LONG_ROUNDS: Final = 60
ENTRIES: Final = text(
    "SELECT sku, warehouse_id, sequence, before_quantity, after_quantity FROM adjustment"
    " WHERE tenant_id = :tenant ORDER BY sku, warehouse_id, sequence"
)
HOLDS: Final = text("SELECT sku, warehouse_id, holds FROM stock_level WHERE tenant_id = :tenant")
SKU_COUNTS: Final = text(
    "SELECT warehouse_id, status, skus FROM sku_count WHERE tenant_id = :tenant AND skus <> 0"
)
RESERVATION_COUNTS: Final = text(
    "SELECT reference, status, reservations FROM reservation_count"
    " WHERE tenant_id = :tenant AND reservations <> 0"
)
SELLING: Final = text(
    "SELECT id FROM warehouse WHERE tenant_id = :tenant AND is_active AND is_sellable"
)


@dataclass(frozen=True)
class Sent:
    """A write of the test: its number, and the idempotency key that others may have too."""

    number: int
    op: Op
    key: str | None


@dataclass
class Keys:
    """The kept outcomes of idempotency keys: the write and the code of its refusal."""

    kept: dict[str, tuple[Op, str | None]]

    def outcome(self, sent: Sent, model: Model) -> tuple[str | None, bool]:
        """Return the code of a write in the model, and whether it replays an earlier one."""
        if sent.key is None:
            return sent.op.apply(model), False
        if sent.key not in self.kept:
            self.kept[sent.key] = sent.op, sent.op.apply(model)
            return self.kept[sent.key][1], False
        op, code = self.kept[sent.key]
        return (code, True) if op == sent.op else ("IDEMPOTENCY_KEY_REUSED", False)


def some_op(dice: random.Random, model: Model) -> Op:  # noqa: C901, PLR0911 - one per kind
    """Choose a write."""

    def some_level() -> Level:
        code = "NOPE" if dice.random() < 0.02 else dice.choice(CODES)
        return code, dice.choices((MAIN.id, OTHER.id, MARKET.id, UNKNOWN), (45, 45, 4, 2))[0]

    def some_step(level: Level) -> Step:
        by_delta = dice.random() < 0.5
        return Step(level, dice.randint(-4, 6) if by_delta else dice.randint(-1, 20), by_delta)

    def some_levels() -> list[Level]:
        return list(dict.fromkeys(some_level() for _ in range(dice.randint(1, 8))))

    kind = dice.choices(
        ("change", "bulk", "move", "reserve", "end", "keep", "reorder", "archive", "turn"),
        (30, 12, 10, 16, 16, 6, 4, 5, 4),
    )[0]
    if kind == "bulk":
        on_error = dice.choice((OnError.ABORT, OnError.CONTINUE))
        return Bulk(tuple(map(some_step, some_levels())), on_error)
    if kind == "move":
        codes = dice.sample(CODES, dice.randint(1, 3))
        source, destination = dice.sample((MAIN.id, OTHER.id), 2)
        return Move(source, destination, tuple((code, dice.randint(1, 4)) for code in codes))
    if kind == "reserve":
        lines = tuple((level, dice.randint(1, 4)) for level in some_levels()[:3])
        return Reserve(lines, is_referenced=dice.random() < 0.5)
    if kind == "end" and model.held:
        # Mostly the latest, some of which are open, and some twice in a batch.
        id_ = dice.choice([*model.held][-40:])
        return End(id_, is_commit=dice.random() < 0.5)
    if kind == "keep":
        return Keep(some_level(), dice.randint(0, 3))
    if kind == "archive":
        return Archive(dice.choice(CODES), is_archived=dice.random() < 0.4)
    if kind == "reorder":
        return Reorder(some_level(), dice.choice((None, 0, 3, 12)))
    if kind == "turn":
        name = dice.choice(("is_active", "is_sellable"))
        return Turn(dice.choice((MAIN.id, OTHER.id)), **{name: dice.random() < 0.6})
    return Change(some_step(some_level()))


def some_writes(dice: random.Random, model: Model, first: int) -> list[Sent]:
    """Choose 1 to 100 writes, some of which repeat another, or its key alone."""
    writes: list[Sent] = []
    for number in range(first, first + dice.choice((1, 2, 5, 20, 50, 100))):
        key = f"key-{number}" if dice.random() < 0.4 else None
        sent = Sent(number, some_op(dice, model), key)
        if writes and dice.random() < 0.08:
            earlier = dice.choice(writes)
            op = earlier.op if dice.random() < 0.7 else sent.op
            sent = Sent(number, op, earlier.key)
        writes.append(sent)
    return writes


@contextmanager
def ordered() -> Iterator[list[tuple[str, Any]]]:
    """Note the author and the outcome of every write, in the order of the tenant's lock."""
    order: list[tuple[str, Any]] = []
    decide_and_post = lane._decide_and_post

    async def noted(tenant_id: str, writes: Sequence[Any], session: Any) -> Any:
        outcomes, position = await decide_and_post(tenant_id, writes, session)
        order.extend(zip((write.caller.email for write in writes), outcomes, strict=True))
        return outcomes, position

    with patch.object(lane, "_decide_and_post", noted):
        yield order


async def sent_together(
    service: Service, processes: Sequence[Database], writes: Sequence[Sent], dice: random.Random
) -> dict[str, Any]:
    """Send writes to two processes while one of them holds the lane. Returns the answers."""
    lanes = [database.lanes for database in processes]
    submitted = 0
    submit = Batches.submit

    async def counted(self: Batches, *arguments: Any, **options: Any) -> Any:
        nonlocal submitted
        submitted += self in lanes
        return await submit(self, *arguments, **options)

    async def send(sent: Sent) -> Any:
        caller = Caller(service.tenant_id, "client", str(sent.number))
        database = dice.choice(processes)
        return await sent.op.send(WriteContext(database=database, caller=caller, key=sent.key))

    async with holding_lane(service, dice.choice(processes)):
        with patch.object(Batches, "submit", counted):
            tasks = [asyncio.create_task(send(sent)) for sent in writes]
            while submitted < len(writes):
                await asyncio.sleep(0)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    return {str(sent.number): answer for sent, answer in zip(writes, answers, strict=True)}


@pytest.mark.parametrize("seed", [1, 2])
async def test_batches_of_any_writes_do_what_the_model_does(
    service: Service, database_url: str, seed: int
) -> None:
    await compare(service, database_url, random.Random(seed), ROUNDS)


@pytest.mark.long
async def test_many_batches_of_any_writes_do_what_the_model_does(
    service: Service, database_url: str
) -> None:
    await compare(service, database_url, random.Random(3), LONG_ROUNDS)


async def compare(service: Service, database_url: str, dice: random.Random, rounds: int) -> None:
    """Send rounds of writes, and compare each answer, the stock and the feed with the model."""
    await service.load(WAREHOUSES, [sku(code) for code in CODES])
    follower = await follower_of(service)
    model = Model(CODES)
    keys = Keys({})
    codes: Counter[str | None] = Counter()
    number = 0
    async with another_process(database_url) as one, another_process(database_url) as two:
        for _ in range(rounds):
            writes = some_writes(dice, model, number)
            number += len(writes)
            with ordered() as order:
                answers = await sent_together(service, [one, two], writes, dice)
            by_number = {str(sent.number): sent for sent in writes}
            done = [(name, outcome) for name, outcome in order if name in by_number]
            assert Counter(name for name, _ in done) == Counter(by_number.keys())
            for name, outcome in done:
                codes[follow(model, keys, by_number[name], outcome, answers[name])] += 1
            await assert_same(service, one, model)
            await assert_followed(service, follower)
    assert codes[None] > number / 3
    assert len(codes) >= 6


def follow(model: Model, keys: Keys, sent: Sent, outcome: Any, answer: Any) -> str | None:
    """Carry out a write in the model, and compare its outcome. Returns the code."""
    code, is_replayed = keys.outcome(sent, model)
    assert answer.replayed is is_replayed, sent
    if isinstance(answer, InventoryError):
        assert answer.code == code, sent
        return code
    assert code is None, (sent, code)
    assert answer == outcome
    if isinstance(sent.op, Reserve):
        reservation = answer.result.reservation
        model.held.setdefault(reservation.id, Held(dict(sent.op.lines)))
    return None


async def assert_same(service: Service, database: Database, model: Model) -> None:
    """Assert that the database has the stock, the ledger and the counts of the model."""
    tenant = {"tenant": service.tenant_id}
    async with database.snapshot() as snapshot:
        skus = await get_skus(snapshot, service.tenant_id, codes=CODES)
        reservations = await get_reservations(snapshot, service.tenant_id, ids=[*model.held])
        rows = [
            await snapshot.rows(it.bindparams(bindparam("tenant", type_=Text)), tenant)
            for it in (ENTRIES, HOLDS, SKU_COUNTS, RESERVATION_COUNTS, SELLING)
        ]
    entries, holds, sku_counts, reservation_counts, selling = rows
    levels = {(it.sku, it.warehouse_id): it for record in skus.values() for it in record.levels}
    assert levels.keys() == model.counts.keys()
    for level, record in levels.items():
        figures = record.on_hand, record.reserved, record.safety_stock
        assert figures == model.figures(level)
        assert record.reorder_point == model.reorder.get(level)
        assert record.version == len(model.counts[level])
    assert {code: record.version - 1 for code, record in skus.items()} == {
        code: model.versions[code] for code in CODES
    }
    assert {code for code, record in skus.items() if record.archived_at} == model.archived
    withheld = model.closed | model.unsellable
    assert {row[0] for row in selling} == {it.id for it in WAREHOUSES} - withheld
    expected = [
        (*level, sequence, before, after)
        for level, counts in sorted(model.counts.items())
        for sequence, (before, after) in enumerate(zip([0, *counts], counts, strict=False), start=1)
    ]
    assert sorted(map(tuple, entries)) == expected
    assert {(row[0], row[1]): row[2] for row in holds} == {
        level: len(model.holding(level)) for level in model.counts
    }
    assert {(row[0], row[1]): row[2] for row in sku_counts} == model.sku_counts()
    assert {id_: it.status for id_, it in reservations.items()} == {
        id_: it.status for id_, it in model.held.items()
    }
    statuses = Counter(("", it.status) for it in model.held.values())
    referenced = [id_ for id_, it in reservations.items() if it.reference == REFERENCE]
    statuses.update((REFERENCE, model.held[id_].status) for id_ in referenced)
    assert {(row[0], row[1]): row[2] for row in reservation_counts} == statuses
