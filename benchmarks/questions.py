"""What the scale curve asks, of a place of any size."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Final

import orjson

from app.domain.filters import AdjustmentFilter, SkuFilter
from app.domain.quantities import Status
from benchmarks.contenders import REST
from benchmarks.data import RECOUNT, WAREHOUSES, Size, code
from benchmarks.load import Load, WrongAnswer
from benchmarks.pages import Place, Position, history_load, inventory_load, ledger_load
from benchmarks.servers import ask

DIFFERENT: Final = 500

# What the service is asked, and how to ask it of a place with so much data.
Question = Callable[[Place, Size], Load]


def size_of(skus: int) -> Size:
    """Return how much there is of so many SKUs."""
    return Size(skus, adjustments_per_level=3, spread=True, busy=skus // 2)


def questions() -> dict[str, Question]:
    """Return what is asked."""
    found: dict[str, Question] = {}
    filters = {
        "": SkuFilter(),
        ", by status": SkuFilter(status=Status.LOW),
        ", by warehouse": SkuFilter(warehouse_id=WAREHOUSES[1].id),
        ", by both": SkuFilter(status=Status.OUT_OF_STOCK, warehouse_id=WAREHOUSES[1].id),
    }
    for (name, where), position in product(filters.items(), Position):
        found[f"list{name}, {position.value}"] = partial(skus_of, where=where, position=position)
    found["one SKU"] = one_of
    histories = {
        "history": AdjustmentFilter(),
        "history in a warehouse": AdjustmentFilter(warehouse_id=WAREHOUSES[1].id),
        "history by reason": AdjustmentFilter(reason="cycle_count"),
    }
    for (name, where_), position in product(histories.items(), Position):
        found[f"{name}, {position.value}"] = partial(history_of, where=where_, position=position)
    for position in Position:
        found[f"ledger, {position.value}"] = partial(ledger_of, position=position, total=False)
    first: partial[Load] = partial(ledger_of, position=Position.FIRST, total=True)
    found["ledger with total, first page"] = first
    found["ledger of a reference with total, first page"] = partial(first, reference=RECOUNT)
    found["history of a reference with total, first page"] = partial(
        first, reference=RECOUNT, of_sku=True
    )
    return found


def skus_of(place: Place, _size: Size, *, where: SkuFilter, position: Position) -> Load:
    """Ask for pages of the list of SKUs."""
    return inventory_load(place, where, position)


def history_of(place: Place, size: Size, *, where: AdjustmentFilter, position: Position) -> Load:
    """Ask for pages of the history of the busy SKU."""
    return history_load(place, replace(where, sku=code(size.skus - 1)), position)


def ledger_of(
    place: Place,
    size: Size,
    *,
    position: Position,
    total: bool,
    reference: str | None = None,
    of_sku: bool = False,
) -> Load:
    """Ask for pages of the ledger: all of it, or of what has a reference or is the busy SKU's."""
    where = AdjustmentFilter(sku=code(size.skus - 1) if of_sku else None, reference=reference)
    return ledger_load(place, where, position, with_total=total)


def one_of(place: Place, size: Size) -> Load:
    """Ask for SKUs one by one."""
    dice = random.Random("one")
    codes = [code(number) for number in dice.sample(range(size.skus), DIFFERENT)]
    asks = [REST.one(sku) for sku in codes]
    bodies = [ask(place.port, what) for what in asks]
    if [orjson.loads(body)["data"]["sku"] for body in bodies] != codes:
        message = "a SKU was asked for, and another one answered"
        raise WrongAnswer(message)
    return Load(asks, expected=frozenset(bodies))
