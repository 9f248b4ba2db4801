"""Pages of the stock levels of a warehouse."""

from collections.abc import Callable
from typing import Any, NamedTuple

from app.domain.filters import SkuFilter
from app.domain.records import LevelRecord, WarehouseRecord
from app.graphql.schema.context import Context
from app.graphql.schema.dataloaders import LevelPage
from app.graphql.schema.enums import LEVEL_ORDERS, LevelOrder
from app.graphql.schema.filters import StockLevelFilterInput
from app.graphql.schema.relay import Connection, connection_of, page_size


class LevelsArgument(NamedTuple):
    """The arguments of a list of stock levels."""

    filter: StockLevelFilterInput | None
    order_by: LevelOrder
    first: int
    after: str | None


async def level_connection(
    context: Context,
    warehouse: WarehouseRecord,
    given: LevelsArgument,
    make: Callable[[LevelRecord], Any],
) -> Connection[Any]:
    """Build the connection of the stock levels of a warehouse.

    Raises:
        ValidationFailed, InvalidCursor.

    """
    where = given.filter.conditions() if given.filter else SkuFilter()
    order = LEVEL_ORDERS[given.order_by]
    cursors = context.cursors("levels", warehouse.id, where, order)
    [position] = cursors.decode(given.after) or [None]
    page = LevelPage(where, position, order, page_size(given.first) + 1)
    records = await context.loaders.levels_by_warehouse(page).load(warehouse)
    return connection_of(
        [make(record) for record in records],
        limit=given.first,
        after=given.after,
        cursor_of=lambda node: cursors.encode([node.record.sku]),
        count=lambda: context.loaders.level_count_by_warehouse(where).load(warehouse.id),
    )
