"""The table: the works of every contender as ratios to the floor, measured side by side."""

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
from benchmarks.peers.contender import Ask, Contender, Record, Update
from benchmarks.servers import ask, settle

BULK: Final = 500
PAGE: Final = 50
# Different requests of a work, sent in turn.
DIFFERENT: Final = 500
DIFFERENT_BULKS: Final = 10
# The stock levels of a full synchronisation.
SYNCED_LEVELS: Final = 100_000
# The SKU that all clients reserve has more than any sample reserves.
PLENTY: Final = 1_000_000_000
WARM_UP_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A contender with its server and its database."""

    contender: Contender
    port: int
    process: psutil.Process
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Work:
    """Requests of one kind on a number of connections; each writes a number of ledger rows.

    `load` returns None for a contender that cannot do the work.
    """

    name: str
    connections: int
    load: Callable[[Running, Size, random.Random], Load | None]
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """The samples of a contender in one work, and those of the floor in the same rounds."""

    contender: str
    work: str
    samples: Sequence[Sample]
    floor: Sequence[Sample]

    @property
    def ratios(self) -> list[float]:
        """The ratio to the floor in each round."""
        return [
            own.requests_per_second / floor.requests_per_second
            for own, floor in zip(self.samples, self.floor, strict=True)
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
    """Draw the codes of the SKUs that are read one by one."""
    dice = random.Random("read")
    return [code(number) for number in dice.sample(range(size.skus), DIFFERENT)]


def list50(server: Running, size: Size, _dice: random.Random) -> Load:
    """Return the load of LIST50: different pages, one after the other."""
    contender, after = server.contender, None
    asks, bodies = [], set()
    for _ in range(min(DIFFERENT, size.skus // PAGE - 1)):
        page = contender.list50(after)
        body = ask(server.port, page)
        asks.append(page)
        bodies.add(body)
        after = contender.read_cursor(orjson.loads(body))
    return Load(asks, expected=frozenset(bodies))


def one(server: Running, size: Size, _dice: random.Random) -> Load:
    """Return the load of single SKUs."""
    asks = [server.contender.one(sku) for sku in read_codes(size)]
    return Load(asks, expected=frozenset(ask(server.port, what) for what in asks))


def set_stock(server: Running, size: Size, dice: random.Random) -> Load:
    """Return the load of single writes, each of which changes a quantity."""
    drawn = updates(size, dice, DIFFERENT)
    turns = [*drawn, *(altered(update, dice) for update in drawn)]
    asks = [server.contender.set_stock(update) for update in turns]
    return Load(asks, skus=1, headers=server.contender.write_headers)


def bulk(server: Running, size: Size, dice: random.Random) -> Load:
    """Return the load of bulks, in which every update changes a quantity."""
    drawn = [updates(size, dice, BULK) for _ in range(DIFFERENT_BULKS)]
    turns = [*drawn, *([altered(update, dice) for update in each] for each in drawn)]
    asks = [server.contender.bulk(turn) for turn in turns]
    return Load(asks, skus=BULK, headers=server.contender.write_headers)


def full_sync(server: Running, size: Size, dice: random.Random) -> Load:
    """Return the load of bulks that together set every level of many SKUs, in a random order."""
    levels = [
        Update(code(sku), warehouse.id, dice.randrange(60))
        for sku in range(min(size.skus, SYNCED_LEVELS // 2))
        for warehouse in WAREHOUSES[:2]
    ]
    dice.shuffle(levels)
    bulks = [levels[start : start + BULK] for start in range(0, len(levels), BULK)]
    asks = [server.contender.bulk(each) for each in bulks if len(each) == BULK]
    return Load(asks, skus=BULK, headers=server.contender.write_headers)


def reserve_one(server: Running, _size: Size, _dice: random.Random) -> Load | None:
    """Return the load of reservations of one stock level, whose stock is plenty."""
    contender = server.contender
    if contender.reserve is None:
        return None
    stocked = Update(code(0), WAREHOUSES[0].id, PLENTY)
    response_json(server.port, contender.set_stock(stocked), contender)
    line = replace(stocked, quantity=1)
    return Load([contender.reserve(line)], skus=1, headers=contender.write_headers)


# Reads come first: their bodies are compared with those from before the first write.
WORKS: Final = (
    Work("LIST50", 16, list50),
    Work("one SKU", 16, one),
    Work("one SKU, 64", 64, one),
    Work("set stock", 16, set_stock, rows=1),
    Work("set stock, 64", 64, set_stock, rows=1),
    Work("bulk 500", 4, bulk, rows=BULK),
    Work("full sync", 4, full_sync, rows=BULK),
    Work("reserve one SKU, 64", 64, reserve_one),
)


def compare(servers: Sequence[Running], size: Size) -> None:
    """Send each work to all contenders, and compare the responses.

    Raises:
        WrongAnswer: a response differs from the first one.

    """
    change, *changes = updates(size, random.Random("compare"), 30)
    warehouse_id = change.warehouse_id
    codes = [change.sku, *read_codes(size)]
    works: dict[str, Callable[[int, Contender], object]] = {
        "LIST50": first_pages,
        "set stock": lambda port, server: server.read_set(
            response_json(port, server.set_stock(change), server), warehouse_id
        ),
        "bulk": lambda port, server: server.read_bulk(
            response_json(port, server.bulk(changes), server)
        ),
        "SKUs": lambda port, server: [
            server.read_one(response_json(port, server.one(sku))) for sku in codes
        ],
    }
    for work, do in works.items():
        answers = [(server.contender.name, do(server.port, server.contender)) for server in servers]
        (first, right), *others = answers
        for name, answer in others:
            if answer != right:
                message = f"{work}: {name} returned {answer}, {first} {right}"
                raise WrongAnswer(message[:2000])


def first_pages(port: int, contender: Contender) -> list[list[Record]]:
    """Return the records of the first two pages."""
    first = response_json(port, contender.list50(None))
    second = response_json(port, contender.list50(contender.read_cursor(first)))
    return [contender.read_list(page) for page in (first, second)]


def response_json(port: int, what: Ask, writer: Contender | None = None) -> Any:
    """Return the JSON of a response."""
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
    """Measure every work of every server in rounds, each in a random order.

    The first server is the floor.
    """
    dice = random.Random("rounds")
    table: list[Row] = []
    for work in WORKS:
        tries = [(server, work.load(server, size, dice)) for server in servers]
        loads = [(server, load) for server, load in tries if load is not None]
        for server, load in loads:
            sample_of(work, server, load, seconds=WARM_UP_SECONDS)
        samples: list[list[Sample]] = [[] for _ in loads]
        for number in range(1, rounds + 1):
            for index in dice.sample(range(len(loads)), len(loads)):
                server, load = loads[index]
                sample = sample_of(work, server, load, seconds=seconds)
                samples[index].append(sample)
                progress(
                    f"{work.name:20} {number}/{rounds}  {server.contender.name:40}"
                    f"{sample.requests_per_second:9,.0f}/s  p50 {sample.p50_ms:7.2f} ms"
                )
        table += [
            Row(server.contender.name, work.name, own, samples[0])
            for (server, _), own in zip(loads, samples, strict=True)
        ]
    return table


def sample_of(work: Work, server: Running, load: Load, *, seconds: int) -> Sample:
    """Run a load on a server, and check the growth of its ledger.

    Raises:
        WrongAnswer: the ledger has fewer new rows than the responses reported.

    """
    before = server.ledger.length() if work.rows else 0
    sample = measure(server.port, load, connections=work.connections, seconds=seconds)
    # Unfinished requests must not slow the next sample.
    settle(server.process, is_idle=server.ledger.is_idle)
    if work.rows:
        written = server.ledger.length() - before
        if written < sample.requests * work.rows:
            message = (
                f"{work.name}: {server.contender.name} sent {sample.requests} responses, "
                f"but the ledger has only {written} new rows"
            )
            raise WrongAnswer(message)
    return sample
