"""Pages of lists that a service is asked for, with what the database says that they hold.

A page deep in a list is reached by a cursor that is made as the service makes it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from sqlalchemy import Executable, Select, func, select
from sqlalchemy.ext.asyncio import create_async_engine

from app.database.tables import adjustment, sku, stock_level
from app.database.tables import tenant as tenant_table
from app.domain.filters import AdjustmentFilter, Order, SkuFilter
from app.graphql.schema.cursors import ListCursors
from benchmarks.data import TENANT
from benchmarks.load import Load, WrongAnswer
from benchmarks.peers.contender import Ask
from benchmarks.servers import ask

PAGE: Final = 50
# How many pages from a place within a list on are asked for in turn.
IN_TURN: Final = 20
LEDGER: Final = """
query ($after: String, $filter: LedgerFilterInput) {
  adjustments(first: 50, after: $after, filter: $filter) {
    nodes {
      id sequence beforeQuantity afterQuantity delta reason note createdBy createdAt
      sku { sku } warehouse { id }
    }
    pageInfo { hasNextPage endCursor }
    %s
  }
}
"""


class Position(StrEnum):
    """Where in a list a page is."""

    FIRST = "first page"
    MIDDLE = "middle page"
    LAST = "last page"


@dataclass(frozen=True, slots=True)
class Place:
    """A service and its database."""

    port: int
    database_url: str


@dataclass(frozen=True, slots=True)
class Page:
    """The cursor of a page, and the keys of what is on it."""

    cursor: str | None
    keys: Sequence[str]


def inventory_load(place: Place, where: SkuFilter, position: Position) -> Load:
    """Return the load of pages of the list of SKUs, by REST, with its total.

    Raises:
        WrongAnswer: a page holds something else than it should.

    """
    source = sku if where.warehouse_id is None else stock_level
    wanted = {"tenant_id": TENANT, **_given(where)}
    statement = (
        select(source.c.sku, source.c.sku)
        .where(*(source.c[name] == value for name, value in wanted.items()))
        .order_by(source.c.sku)
    )
    question = ["skus", where, Order.ASCENDING]
    total, pages = _pages(place, statement, position, question=question)

    def request(cursor: str | None) -> Ask:
        given = {"limit": PAGE, "cursor": cursor, **_given(where)}
        return Ask("GET", f"/api/inventory?{_query(given)}", None)

    return _load(
        place,
        pages,
        request,
        read=lambda it: ([found["sku"] for found in it["data"]], it["meta"]["total"]),
        total=total,
    )


def history_load(place: Place, where: AdjustmentFilter, position: Position) -> Load:
    """Return the load of pages of a SKU's history, by REST, with its total.

    Raises:
        WrongAnswer: a page holds something else than it should.

    """
    total, pages = _adjustments(place, where, position)

    def request(cursor: str | None) -> Ask:
        given = {"limit": PAGE, "cursor": cursor, **_given(where)}
        return Ask("GET", f"/api/inventory/{given.pop('sku')}/adjustments?{_query(given)}", None)

    return _load(
        place,
        pages,
        request,
        read=lambda it: ([found["id"] for found in it["data"]], it["meta"]["total"]),
        total=total,
    )


def ledger_load(
    place: Place, where: AdjustmentFilter, position: Position, *, with_total: bool
) -> Load:
    """Return the load of pages of the ledger, by GraphQL.

    Raises:
        WrongAnswer: a page holds something else than it should.

    """
    total, pages = _adjustments(place, where, position)
    query = LEDGER % ("totalCount" if with_total else "")

    def read(answer: Any) -> tuple[list[str], int]:
        found = answer["data"]["adjustments"]
        return [node["id"] for node in found["nodes"]], found.get("totalCount", total)

    def request(cursor: str | None) -> Ask:
        variables = {"after": cursor, "filter": _given(where)}
        return Ask("POST", "/graphql", {"query": query, "variables": variables})

    return _load(
        place,
        pages,
        request,
        read=read,
        total=total,
    )


def _adjustments(
    place: Place, where: AdjustmentFilter, position: Position
) -> tuple[int, list[Page]]:
    columns = (adjustment.c.created_at, adjustment.c.sequence, adjustment.c.id)
    wanted = {"tenant_id": TENANT, **_given(where)}
    statement = (
        select(adjustment.c.id, *columns)
        .where(*(adjustment.c[name] == value for name, value in wanted.items()))
        .order_by(*(column.desc() for column in columns))
    )
    return _pages(place, statement, position, question=["adjustments", None, where])


def _pages(
    place: Place, statement: Select[Any], position: Position, *, question: object
) -> tuple[int, list[Page]]:
    """Return how many rows a list has, and its pages at a position.

    Each row is the key of a thing, and then its position: a value, or several as a list.
    """
    [[total]] = _rows(place, select(func.count()).select_from(statement.order_by(None).subquery()))
    [[key]] = _rows(place, select(tenant_table.c.cursor_key))
    start, number = {
        Position.FIRST: (0, 1),
        Position.MIDDLE: (total // 2, IN_TURN),
        Position.LAST: (total - PAGE, 1),
    }[position]
    number = min(number, (total - start) // PAGE)
    if start < 0 or number < 1:
        message = f"there are but {total} rows to page through"
        raise WrongAnswer(message)
    before = min(start, 1)
    window = statement.offset(start - before).limit(number * PAGE + before)
    # The row before the first page, if there is one, and then those of the pages.
    found = [None] * (1 - before) + list(_rows(place, window))
    pages = []
    for first in range(1, len(found), PAGE):
        rows = found[first : first + PAGE]
        cursor = _cursor(found[first - 1], question=question, key=key)
        pages.append(Page(cursor, [row[0] for row in rows]))
    return total, pages


def _cursor(row: Sequence[Any] | None, *, question: object, key: bytes) -> str | None:
    if row is None:
        return None
    position = row[1] if len(row) == 2 else list(row[1:])
    return ListCursors(question, key=key).encode(position)


def _load(
    place: Place,
    pages: Sequence[Page],
    request: Callable[[str | None], Ask],
    *,
    read: Callable[[Any], tuple[list[str], int]],
    total: int,
) -> Load:
    asks = [request(page.cursor) for page in pages]
    bodies = [ask(place.port, what) for what in asks]
    for page, what, body in zip(pages, asks, bodies, strict=True):
        if read(orjson.loads(body)) != (page.keys, total):
            message = f"{what} is not answered by the page of {page.keys[0]}: {body[:500]!r}"
            raise WrongAnswer(message)
    return Load(asks, expected=frozenset(bodies))


def _given(where: SkuFilter | AdjustmentFilter) -> dict[str, Any]:
    # Nothing is archived, and a flag that is off is no condition.
    return {name: value for name, value in asdict(where).items() if value not in (None, False)}


def _query(given: dict[str, Any]) -> str:
    return urlencode({name: value for name, value in given.items() if value is not None})


def _rows(place: Place, statement: Executable) -> Sequence[Any]:
    async def work() -> Sequence[Any]:
        engine = create_async_engine(place.database_url)
        try:
            async with engine.connect() as connection:
                return (await connection.execute(statement)).all()
        finally:
            await engine.dispose()

    return asyncio.run(work())
