"""Searches for an accepted query that costs far more than a list of 50 SKUs.

python -m tests.security.costs --queries 20000

The search composes documents from the schema, at random and from the most expensive ones so far, on
a tenant with expensive data. It prints the worst by processor time and by memory, and fails if one
is above the bounds. docs/query-cost.md has the result.
"""

import asyncio
import gc
import heapq
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from graphql import (
    GraphQLField,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    get_named_type,
    is_composite_type,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from ulid import ULID

from app.database.tables import change, reservation, reservation_count, reservation_line
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.graphql.schema.schema import schema
from tests.databases import migrated
from tests.engines import transact
from tests.service import Service, counted, level, new_tenant, running, sku

REFERENCE: Final = (
    "{ skus(first: 50) { totalCount nodes { sku totalAvailable stock { available "
    "warehouse { name } } } } }"
)
MOST_TIMES: Final = 200
MOST_MEBIBYTES: Final = 64
ITEMS: Final = 500
TEXT: Final = "\N{PACKAGE}"
# Number of most expensive documents that the search mutates.
BEST: Final = 40
SKU_FILTERS: Final = (
    None,
    "{statusIn: [LOW, NORMAL]}",
    '{codePrefix: "W"}',
    '{text: "w"}',
    '{text: "a00 th"}',
    '{updatedSince: "2026-01-01"}',
    '{updatedSince: "2026-01-01", archived: null, codePrefix: "A"}',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of the tenant."""

    warehouses: int = 300
    ordinary: int = 300
    wide: int = 100
    reservations: int = 60
    history: int = 1_000
    changes: int = 12_000


@dataclass(frozen=True, slots=True)
class Query:
    """A document and its variables."""

    text: str
    variables: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Measured:
    """Cost of one query: seconds of processor time, mebibytes, and its error code."""

    seconds: float
    mebibytes: float
    text: str
    code: str | None


async def fill(service: Service, shape: Shape) -> None:
    """Load many warehouses, SKUs with a level in each, long texts, histories and reservations."""
    address = TEXT * 400
    warehouses = [
        WarehouseRecord(_id(number), TEXT * 180, WarehouseType.OWN, address, None, is_active=True)
        for number in range(shape.warehouses)
    ]
    skus = [
        sku(
            _code(number),
            *(level(warehouses[(number + k) % 5], 1_000) for k in range(2 + number % 4)),
        )
        for number in range(shape.ordinary)
    ]
    skus += [
        sku(f"W{number:03d}", *(level(record, 1_000) for record in warehouses), title=TEXT * 400)
        for number in range(shape.wide)
    ]
    long = level(warehouses[0], 0)
    entries = [
        counted(number, f"2026-0{1 + number % 8}-01T00:00:00Z", note=TEXT * 1_000)
        for number in range(shape.history)
    ]
    object.__setattr__(long, "history", sorted(entries, key=lambda entry: entry.created_at))
    await service.load(warehouses, [*skus, sku("LONG", long)])
    await transact(service.database, lambda connection: _reserve(connection, service, shape))
    await transact(service.database, lambda connection: _tell(connection, service, shape))


async def _tell(connection: AsyncConnection, service: Service, shape: Shape) -> None:
    """Insert changes with long texts."""
    of_tenant = {"tenant_id": service.tenant_id}
    text = {"title": TEXT * 400, "address": TEXT * 400, "name": TEXT * 180}
    body = orjson.dumps({"before": text, "after": text}).decode()
    rows = [
        {
            **of_tenant,
            "position": position,
            "type": "sku_changed",
            "sku": _code(0),
            "body": body,
            "created_at": datetime.now(UTC),
        }
        for position in range(1, shape.changes + 1)
    ]
    await connection.execute(change.insert(), rows)


async def _reserve(connection: AsyncConnection, service: Service, shape: Shape) -> None:
    of_tenant = {"tenant_id": service.tenant_id}
    held, lines = [], []
    for _ in range(shape.reservations):
        id_ = f"rsv_{ULID()}"
        stamp = {"created_by": "tester", "created_at": datetime.now(UTC), "version": 1}
        held.append({**of_tenant, "id": id_, "status": "open", "note": TEXT * 1_000, **stamp})
        lines += [
            {
                **of_tenant,
                "reservation_id": id_,
                "sku": _code(number % shape.ordinary),
                "warehouse_id": _id((number % shape.ordinary + number // shape.ordinary) % 5),
                "quantity": 1,
                "held": 1,
                "committed": 0,
            }
            for number in range(min(ITEMS, 2 * shape.ordinary))
        ]
    await connection.execute(reservation.insert(), held)
    for start in range(0, len(lines), 5_000):
        await connection.execute(reservation_line.insert(), lines[start : start + 5_000])
    kept = {"reference": "", "status": "open", "reservations": len(held)}
    await connection.execute(reservation_count.insert(), [{**of_tenant, **kept}])


class Composer:
    """Composes queries, and writes of many items, that the schema accepts."""

    def __init__(self, dice: random.Random, shape: Shape) -> None:
        self._dice = dice
        self._shape = shape

    def query(self) -> Query:
        """Return a random query, seldom a mutation."""
        if self._dice.random() < 0.03:
            return self._bulk()
        depth = self._dice.choice((2, 3, 4, 6, 8, 12))
        width = self._dice.choice((1, 1, 1, 2, 5, 20, 50))
        root = schema._schema.query_type
        assert root is not None
        names = [*root.fields]
        name = self._dice.choice(names)
        same = self._dice.random() < 0.7
        parts = [
            f"a{number}: {self._field(name if same else self._dice.choice(names), root, depth)}"
            for number in range(width)
        ]
        return Query(f"{{ {' '.join(parts)} }}")

    def mutated(self, query: Query) -> Query:
        """Return a query with a larger page size, or with more aliases."""
        text = query.text
        for old, new in (("first: 1)", "first: 50)"), ("first: 20", "first: 100")):
            if old in text and self._dice.random() < 0.5:
                text = text.replace(old, new, 1)
        if text.startswith("{ a0: ") and self._dice.random() < 0.7:
            inner = text[2:-2]
            times = self._dice.choice((2, 3))
            parts = [inner.replace("a0: ", f"b{n}a0: ") for n in range(times)]
            text = f"{{ {' '.join(_renamed(part, n) for n, part in enumerate(parts))} }}"
        return Query(text, query.variables)

    def _bulk(self) -> Query:
        times = self._dice.choice((1, 2, 5, 10))
        updates = [
            {"sku": code, "warehouseId": _id(0), "change": {"quantity": 5}, "reason": "count"}
            for code in self._codes(self._dice.choice((1, 50, ITEMS)))
        ]
        shown = "results { adjustment { id note sku { stock { warehouse { name } } } } } "
        parts = [f"a{n}: bulkSetStock(input: {{updates: $u}}) {{ {shown} }}" for n in range(times)]
        text = f"mutation ($u: [StockUpdateInput!]!) {{ {' '.join(parts)} }}"
        return Query(text, {"u": updates})

    def _codes(self, number: int) -> list[str]:
        codes = [_code(n) for n in range(self._shape.ordinary)]
        codes += [f"W{n:03d}" for n in range(self._shape.wide)]
        return self._dice.sample(codes, min(number, len(codes)))

    def _field(self, name: str, parent: GraphQLObjectType, depth: int) -> str:
        field_ = parent.fields[name]
        arguments = self._arguments(field_)
        type_ = get_named_type(field_.type)
        if not is_composite_type(type_):
            return f"{name}{arguments}"
        if not isinstance(type_, GraphQLInterfaceType):
            assert isinstance(type_, GraphQLObjectType), type_
            return f"{name}{arguments} {{ {self._selection(type_, depth - 1)} }}"
        made = self._dice.choice(schema._schema.get_possible_types(type_))
        return f"{name}{arguments} {{ ... on {made} {{ {self._selection(made, depth - 1)} }} }}"

    def _selection(self, type_: GraphQLObjectType, depth: int) -> str:
        leaves = [n for n, it in type_.fields.items() if not _is_composite(it)]
        edges = [n for n, it in type_.fields.items() if _is_composite(it)]
        chosen = self._dice.sample(leaves, self._dice.randint(0, min(4, len(leaves))))
        if depth > 0 and edges:
            number = self._dice.choice((1, 1, 1, 2))
            inner = self._dice.sample(edges, min(number, len(edges)))
            chosen += [self._field(name, type_, depth) for name in inner]
        return " ".join(["__typename", *chosen])

    def _arguments(self, field_: GraphQLField) -> str:
        given = {
            name: text
            for name, it in field_.args.items()
            if (text := self._argument(name, it.type)) is not None
        }
        listing = ", ".join(f"{name}: {text}" for name, text in given.items())
        return f"({listing})" if listing else ""

    def _argument(self, name: str, type_: GraphQLInputType) -> str | None:
        dice = self._dice
        values: dict[str, Sequence[str | None]] = {
            "first": ("1", "20", "50", "200"),
            # Of a list of changes. Others have cursors.
            "after": ("0", "5000") if str(type_) == "Quantity" else (None,),
            "types": (None, "[STATUS_CHANGED]", "[SKU_CHANGED, STOCK_CHANGED]"),
            "warehouseIds": (None, f'["{_id(0)}"]'),
            "id": (f'"{_id(0)}"', f'"sku_{_code(0)}"', f'"level_{_id(0)}_LONG"'),
            "warehouseId": (f'"{_id(0)}"',),
            "codes": (orjson.dumps(self._codes(200)).decode(),),
            "ids": (orjson.dumps([f"sku_{code}" for code in self._codes(200)]).decode(),),
            "sku": ('"W000"', '"LONG"', f'"{_code(0)}"'),
            "at": ('"2026-06-01"',),
            "from": ('"2026-01-01"',),
            "to": ('"2026-01-02"', '"2026-08-01"'),
            "interval": ("DAY", "HOUR"),
            "orderBy": (None, "SKU_DESC"),
        }
        if "SkuOrder" in str(type_):
            return dice.choice((None, "SKU_DESC", "AVAILABLE_ASC", "UPDATED_DESC"))
        if "SkuFilter" in str(type_) or "StockLevelFilter" in str(type_):
            return dice.choice(SKU_FILTERS)
        if (name == "filter" and "Adjustment" in str(type_)) or "Ledger" in str(type_):
            day = f"2026-0{dice.randint(1, 8)}-{dice.randint(1, 28):02d}"
            filters = (None, "{sign: UNCHANGED}", f'{{startDate: "{day}"}}', '{createdBy: "x"}')
            return dice.choice(filters)
        return dice.choice(values.get(name, (None,)))


class Meter:
    """Measures queries of one service, each by its processor time and its peak of memory."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def measure(self, query: Query) -> Measured:
        """Send a query and measure it."""
        body = {"query": query.text, "variables": query.variables}
        _reset_peak()
        before, started = _memory("VmRSS"), time.process_time()
        response = await self._service.rest("POST", "/graphql", json=body)
        seconds = time.process_time() - started
        mebibytes = _memory("VmHWM") - before
        errors = response.json().get("errors")
        code = errors[0]["extensions"]["code"] if errors else None
        return Measured(seconds, mebibytes, query.text, code)


async def search(url: str, queries: int, seed: int, shape: Shape) -> bool:
    """Measure `queries` queries and print the worst. Returns whether all are within the bounds."""
    dice = random.Random(seed)
    composer = Composer(dice, shape)
    async with running(url) as (app, client):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await fill(service, shape)
        meter = Meter(service)
        reference = sorted([(await meter.measure(Query(REFERENCE))).seconds for _ in range(41)])[20]
        best: list[Measured] = []
        by_time: list[Measured] = []
        by_memory: list[Measured] = []
        answered = 0
        for number in range(queries):
            greedy = best and dice.random() < 0.5
            query = composer.mutated(Query(dice.choice(best).text)) if greedy else composer.query()
            measured = await meter.measure(query)
            if measured.seconds > reference * MOST_TIMES / 2:
                gc.collect()
                measured = min(measured, await meter.measure(query))
            answered += measured.code is None
            _keep(by_time, measured)
            _keep(by_memory, _by_memory(measured))
            # A write is repeated with new items only, not with more aliases.
            if not measured.text.startswith("mutation"):
                _keep(best, measured)
            if number % 100 == 0:
                times, memory = max(by_time).seconds / reference, max(by_memory).seconds
                most = f"at most {times:.0f} x the reference and {memory:.0f} MiB"
                print(f"{number} queries, {most}", file=sys.stderr, flush=True)
    worst = max(by_time).seconds / reference
    memory = max(measured.seconds for measured in by_memory)
    print(f"{queries} queries, {answered} answered in full; seed {seed}")
    print(f"reference: {reference * 1_000:.2f} ms")
    for measured in sorted(by_time, reverse=True)[:5]:
        print(f"{measured.seconds / reference:6.0f} x  {measured.code}  {measured.text[:150]}")
    for measured in sorted(by_memory, reverse=True)[:5]:
        print(f"{measured.seconds:6.0f} MiB  {measured.code}  {measured.text[:150]}")
    return worst <= MOST_TIMES and memory <= MOST_MEBIBYTES


def _keep(heap: list[Measured], measured: Measured) -> None:
    """Add a query to the most expensive ones."""
    heapq.heappush(heap, measured)
    if len(heap) > BEST:
        heapq.heappop(heap)


def _by_memory(measured: Measured) -> Measured:
    return Measured(measured.mebibytes, measured.seconds, measured.text, measured.code)


def _is_composite(field_: GraphQLField) -> bool:
    return is_composite_type(get_named_type(field_.type))


def _renamed(part: str, number: int) -> str:
    words = part.split(" ")
    return " ".join(
        f"c{number}{word}"
        if word.endswith(":") and word[0] in "abc" and word[1].isdigit()
        else word
        for word in words
    )


def _id(number: int) -> str:
    return f"wh_01HXADV{number:019d}"


def _code(number: int) -> str:
    return f"A{number:04d}"


def _memory(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1_024
    raise LookupError(name)


def _reset_peak() -> None:
    # Linux: restarts the peak of memory at the present use.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def main(
    queries: Annotated[int, typer.Option(help="How many queries.")] = 20_000,
    seed: Annotated[int, typer.Option(help="What they are composed from.")] = 1,
) -> None:
    """Search for a query that costs too much."""
    with tempfile.TemporaryDirectory(prefix="inventory-costs-") as directory:
        url = migrated(f"sqlite+aiosqlite:///{Path(directory) / 'inventory.db'}")
        is_within = asyncio.run(search(url, queries, seed, Shape()))
    raise SystemExit(0 if is_within else 1)


if __name__ == "__main__":
    typer.run(main)
