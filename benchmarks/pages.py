"""Loads of list pages, with the expected content read from the database.

The cursor of a page deep in a list is encoded by the function of the service.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
# Consecutive pages in the middle of a list that are requested in turn.
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
    """The position of a page in a list."""

    FIRST = "first page"
    MIDDLE = "middle page"
    LAST = "last page"


@dataclass(frozen=True, slots=True)
class Target:
    """A service and its database."""

    port: int
    database_url: str


@dataclass(frozen=True, slots=True)
class Page:
    """The cursor of a page, and the keys of its rows."""

    cursor: str | None
    keys: Sequence[str]


def inventory_load(target: Target, where: SkuFilter, position: Position) -> Load:
    """Return the load of pages of the list of SKUs, by REST, with its total.

    Raises:
        WrongAnswer: a page has wrong rows or a wrong total.

    """
    source = sku if where.warehouse_id is None else stock_level
    conditions = {"tenant_id": TENANT, **_conditions(where)}
    statement = (
        select(source.c.sku, source.c.sku)
        .where(*(source.c[name] == value for name, value in conditions.items()))
        .order_by(source.c.sku)
    )
    question: list[object] = ["skus", where, Order.CODE_ASCENDING]
    if where.warehouse_id is not None:
        question = ["levels", where.warehouse_id, replace(where, warehouse_id=None)]
        question.append(Order.CODE_ASCENDING)
    total, pages = _pages(target, statement, position, question=question)

    def request(cursor: str | None) -> Ask:
        parameters = {"limit": PAGE, "cursor": cursor, **_conditions(where)}
        return Ask("GET", f"/api/inventory?{_query(parameters)}", None)

    return _load(
        target,
        pages,
        request,
        read=lambda body: ([row["sku"] for row in body["data"]], body["meta"]["total"]),
        total=total,
    )


def history_load(target: Target, where: AdjustmentFilter, position: Position) -> Load:
    """Return the load of pages of a SKU's history, by REST, with its total.

    Raises:
        WrongAnswer: a page has wrong rows or a wrong total.

    """
    total, pages = _adjustments(target, where, position)

    def request(cursor: str | None) -> Ask:
        parameters = {"limit": PAGE, "cursor": cursor, **_conditions(where)}
        return Ask(
            "GET", f"/api/inventory/{parameters.pop('sku')}/adjustments?{_query(parameters)}", None
        )

    return _load(
        target,
        pages,
        request,
        read=lambda body: ([row["id"] for row in body["data"]], body["meta"]["total"]),
        total=total,
    )


def ledger_load(
    target: Target, where: AdjustmentFilter, position: Position, *, with_total: bool
) -> Load:
    """Return the load of pages of the ledger, by GraphQL.

    Raises:
        WrongAnswer: a page has wrong rows or a wrong total.

    """
    total, pages = _adjustments(target, where, position)
    query = LEDGER % ("totalCount" if with_total else "")

    def read(answer: Any) -> tuple[list[str], int]:
        page = answer["data"]["adjustments"]
        return [node["id"] for node in page["nodes"]], page.get("totalCount", total)

    def request(cursor: str | None) -> Ask:
        variables = {"after": cursor, "filter": _conditions(where)}
        return Ask("POST", "/graphql", {"query": query, "variables": variables})

    return _load(
        target,
        pages,
        request,
        read=read,
        total=total,
    )


def _adjustments(
    target: Target, where: AdjustmentFilter, position: Position
) -> tuple[int, list[Page]]:
    columns = (adjustment.c.position,)
    conditions = {"tenant_id": TENANT, **_conditions(where)}
    statement = (
        select(adjustment.c.id, *columns)
        .where(*(adjustment.c[name] == value for name, value in conditions.items()))
        .order_by(*(column.desc() for column in columns))
    )
    return _pages(target, statement, position, question=["adjustments", None, where])


def _pages(
    target: Target, statement: Select[Any], position: Position, *, question: object
) -> tuple[int, list[Page]]:
    """Return the number of rows of a list, and its pages at a position.

    Each row of the statement is a key, followed by the values of its position in the list.
    """
    [[total]] = _rows(target, select(func.count()).select_from(statement.order_by(None).subquery()))
    [[key]] = _rows(target, select(tenant_table.c.cursor_key))
    start, number = {
        Position.FIRST: (0, 1),
        Position.MIDDLE: (total // 2, IN_TURN),
        Position.LAST: (total - PAGE, 1),
    }[position]
    number = min(number, (total - start) // PAGE)
    if start < 0 or number < 1:
        message = f"the list has only {total} rows"
        raise WrongAnswer(message)
    before = min(start, 1)
    window = statement.offset(start - before).limit(number * PAGE + before)
    # The row before the first page, or None, and then the rows of the pages.
    selected = [None] * (1 - before) + list(_rows(target, window))
    pages = []
    for first in range(1, len(selected), PAGE):
        rows = selected[first : first + PAGE]
        cursor = _cursor(selected[first - 1], question=question, key=key)
        pages.append(Page(cursor, [row[0] for row in rows]))
    return total, pages


def _cursor(row: Sequence[Any] | None, *, question: object, key: bytes) -> str | None:
    if row is None:
        return None
    # The position of an adjustment is a number; that of a SKU has one or two parts.
    position = row[1] if isinstance(row[1], int) and len(row) == 2 else list(row[1:])
    return ListCursors(question, key=key).encode(position)


def _load(
    target: Target,
    pages: Sequence[Page],
    request: Callable[[str | None], Ask],
    *,
    read: Callable[[Any], tuple[list[str], int]],
    total: int,
) -> Load:
    asks = [request(page.cursor) for page in pages]
    bodies = [ask(target.port, what) for what in asks]
    for page, what, body in zip(pages, asks, bodies, strict=True):
        if read(orjson.loads(body)) != (page.keys, total):
            message = f"{what} returned another page than that of {page.keys[0]}: {body[:500]!r}"
            raise WrongAnswer(message)
    return Load(asks, expected=frozenset(bodies))


def _conditions(where: SkuFilter | AdjustmentFilter) -> dict[str, Any]:
    # The data has no archived SKUs, so a False flag adds no condition.
    conditions = {
        name: value for name, value in asdict(where).items() if value not in (None, False)
    }
    if "statuses" in conditions:
        [conditions["status"]] = conditions.pop("statuses")
    return conditions


def _query(parameters: dict[str, Any]) -> str:
    return urlencode({name: value for name, value in parameters.items() if value is not None})


def _rows(target: Target, statement: Executable) -> Sequence[Any]:
    async def work() -> Sequence[Any]:
        engine = create_async_engine(target.database_url)
        try:
            async with engine.connect() as connection:
                return (await connection.execute(statement)).all()
        finally:
            await engine.dispose()

    return asyncio.run(work())
