"""The table: every contender's works as ratios to the floor, taken side by side."""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
import psutil

from benchmarks.data import WAREHOUSES, Size, code
from benchmarks.ledger import Ledger
from benchmarks.load import Load, Sample, WrongAnswer, measure
from benchmarks.peers.contender import Ask, Contender, Update
from benchmarks.servers import ask, settle

BULK: Final = 500
# How many different requests of each work are sent in turn.
DIFFERENT: Final = 500
DIFFERENT_BULKS: Final = 10
WARM_UP_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A contender, the server that is it, and the database that it writes to."""

    contender: Contender
    port: int
    process: psutil.Process
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Work:
    """Something to do by so many connections at once, and the ledger rows that one of it writes."""

    name: str
    connections: int
    load: Callable[[Running, Size, random.Random], Load]
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """What a contender did in one work: its samples, and the floor's of the same rounds."""

    contender: str
    work: str
    samples: Sequence[Sample]
    floor: Sequence[Sample]

    @property
    def ratios(self) -> list[float]:
        """How fast it was beside the floor, round by round."""
        return [
            mine.requests_per_second / floors.requests_per_second
            for mine, floors in zip(self.samples, self.floor, strict=True)
        ]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


def updates(size: Size, dice: random.Random, number: int) -> list[Update]:
    """Draw updates of different levels."""
    skus = dice.sample(range(size.skus), number)
    return [Update(code(sku), WAREHOUSES[dice.randrange(2)].id, dice.randrange(60)) for sku in skus]


def altered(update: Update, dice: random.Random) -> Update:
    """Return an update of the same level to another quantity."""
    return replace(update, quantity=(update.quantity + dice.randrange(1, 60)) % 60)


def read_codes(size: Size) -> list[str]:
    """Draw the SKUs that are read one by one."""
    dice = random.Random("read")
    return [code(number) for number in dice.sample(range(size.skus), DIFFERENT)]


def list50(server: Running, _size: Size, _dice: random.Random) -> Load:
    """Return the load of LIST50; while nobody writes, each body is the same."""
    what = server.contender.list50()
    return Load([what], expected=frozenset([ask(server.port, what)]))


def one(server: Running, size: Size, _dice: random.Random) -> Load:
    """Return the load of single SKUs."""
    asks = [server.contender.one(sku) for sku in read_codes(size)]
    return Load(asks, expected=frozenset(ask(server.port, what) for what in asks))


def set_stock(server: Running, size: Size, dice: random.Random) -> Load:
    """Return the load of single writes, each of which changes what there is."""
    drawn = updates(size, dice, DIFFERENT)
    turns = [*drawn, *(altered(update, dice) for update in drawn)]
    asks = [server.contender.set_stock(update) for update in turns]
    return Load(asks, skus=1, headers=server.contender.write_headers)


def bulk(server: Running, size: Size, dice: random.Random) -> Load:
    """Return the load of bulks, of which every update changes what there is."""
    drawn = [updates(size, dice, BULK) for _ in range(DIFFERENT_BULKS)]
    turns = [*drawn, *([altered(update, dice) for update in each] for each in drawn)]
    asks = [server.contender.bulk(turn) for turn in turns]
    return Load(asks, skus=BULK, headers=server.contender.write_headers)


# Reads come first: they are held against what was answered before anything was written.
WORKS: Final = (
    Work("LIST50", 16, list50),
    Work("one SKU", 16, one),
    Work("set stock", 16, set_stock, rows=1),
    Work("bulk 500", 4, bulk, rows=BULK),
)


def compare(servers: Sequence[Running], size: Size) -> None:
    """Have everyone do each work, and hold the answers against each other.

    Raises:
        WrongAnswer: one differs from the first one's.

    """
    change, *changes = updates(size, random.Random("compare"), 30)
    place = change.warehouse_id
    codes = [change.sku, *read_codes(size)]
    works: dict[str, Callable[[int, Contender], object]] = {
        "LIST50": lambda port, it: it.read_list(told(port, it.list50())),
        "set stock": lambda port, it: it.read_set(told(port, it.set_stock(change), it), place),
        "bulk": lambda port, it: it.read_bulk(told(port, it.bulk(changes), it)),
        "SKUs": lambda port, it: [it.read_one(told(port, it.one(sku))) for sku in codes],
    }
    for work, do in works.items():
        answers = [(it.contender.name, do(it.port, it.contender)) for it in servers]
        (first, right), *others = answers
        for name, answer in others:
            if answer != right:
                message = f"{work}: {name} answers {answer}, {first} {right}"
                raise WrongAnswer(message[:2000])


def told(port: int, what: Ask, writer: Contender | None = None) -> Any:
    """Return the JSON that a server answers."""
    headers = writer.write_headers if writer else {}
    return orjson.loads(ask(port, what, headers))


def rows(
    servers: Sequence[Running],
    size: Size,
    *,
    rounds: int,
    seconds: int,
    progress: Callable[[str], None],
) -> list[Row]:
    """Measure every work of every server in interleaved rounds, each in a new order.

    The first server is the floor.
    """
    dice = random.Random("rounds")
    found: list[Row] = []
    for work in WORKS:
        loads = [work.load(server, size, dice) for server in servers]
        for server, load in zip(servers, loads, strict=True):
            sample_of(work, server, load, seconds=WARM_UP_SECONDS)
        samples: list[list[Sample]] = [[] for _ in servers]
        for number in range(1, rounds + 1):
            for index in dice.sample(range(len(servers)), len(servers)):
                sample = sample_of(work, servers[index], loads[index], seconds=seconds)
                samples[index].append(sample)
                progress(
                    f"{work.name:10} {number}/{rounds}  {servers[index].contender.name:40}"
                    f"{sample.requests_per_second:9,.0f}/s  p50 {sample.p50_ms:7.2f} ms"
                )
        found += [
            Row(server.contender.name, work.name, mine, samples[0])
            for server, mine in zip(servers, samples, strict=True)
        ]
    return found


def sample_of(work: Work, server: Running, load: Load, *, seconds: int) -> Sample:
    """Run a load on a server, and have the ledger confirm what it says that it wrote.

    Raises:
        WrongAnswer: there are fewer new ledger rows than were answered.

    """
    before = server.ledger.length() if work.rows else 0
    sample = measure(server.port, load, connections=work.connections, seconds=seconds)
    # What the clients left behind is not the next one's burden.
    settle(server.process, is_idle=server.ledger.is_idle)
    if work.rows:
        written = server.ledger.length() - before
        if written < sample.requests * work.rows:
            message = (
                f"{work.name}: {server.contender.name} answered {sample.requests} times, "
                f"and the ledger has {written} rows more"
            )
            raise WrongAnswer(message)
    return sample
