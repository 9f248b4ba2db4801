"""The requests of the scale curve for data of any size."""

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
from benchmarks.pages import Position, Target, history_load, inventory_load, ledger_load
from benchmarks.servers import ask

DIFFERENT: Final = 500

# Returns the load of a question for a service with data of a size.
Question = Callable[[Target, Size], Load]


def size_of(skus: int) -> Size:
    """Return the size of the data with a number of SKUs."""
    return Size(skus, adjustments_per_level=3, spread=True, busy=skus // 2)


def questions() -> dict[str, Question]:
    """Return the questions by name."""
    all_questions: dict[str, Question] = {}
    filters = {
        "": SkuFilter(),
        ", by status": SkuFilter(statuses=(Status.LOW,)),
        ", by warehouse": SkuFilter(warehouse_id=WAREHOUSES[1].id),
        ", by both": SkuFilter(statuses=(Status.OUT_OF_STOCK,), warehouse_id=WAREHOUSES[1].id),
    }
    for (name, where), position in product(filters.items(), Position):
        all_questions[f"list{name}, {position.value}"] = partial(
            skus_of, where=where, position=position
        )
    all_questions["one SKU"] = one_of
    histories = {
        "history": AdjustmentFilter(),
        "history in a warehouse": AdjustmentFilter(warehouse_id=WAREHOUSES[1].id),
        "history by reason": AdjustmentFilter(reason="cycle_count"),
    }
    for (name, where_), position in product(histories.items(), Position):
        all_questions[f"{name}, {position.value}"] = partial(
            history_of, where=where_, position=position
        )
    for position in Position:
        all_questions[f"ledger, {position.value}"] = partial(
            ledger_of, position=position, total=False
        )
    first: partial[Load] = partial(ledger_of, position=Position.FIRST, total=True)
    all_questions["ledger with total, first page"] = first
    all_questions["ledger of a reference with total, first page"] = partial(
        first, reference=RECOUNT
    )
    all_questions["history of a reference with total, first page"] = partial(
        first, reference=RECOUNT, of_sku=True
    )
    return all_questions


def skus_of(target: Target, _size: Size, *, where: SkuFilter, position: Position) -> Load:
    """Return the load of pages of the list of SKUs."""
    return inventory_load(target, where, position)


def history_of(target: Target, size: Size, *, where: AdjustmentFilter, position: Position) -> Load:
    """Return the load of pages of the history of the busy SKU."""
    return history_load(target, replace(where, sku=code(size.skus - 1)), position)


def ledger_of(
    target: Target,
    size: Size,
    *,
    position: Position,
    total: bool,
    reference: str | None = None,
    of_sku: bool = False,
) -> Load:
    """Return the load of pages of the ledger, filtered by a reference or the busy SKU if given."""
    where = AdjustmentFilter(sku=code(size.skus - 1) if of_sku else None, reference=reference)
    return ledger_load(target, where, position, with_total=total)


def one_of(target: Target, size: Size) -> Load:
    """Return the load of single SKUs."""
    dice = random.Random("one")
    codes = [code(number) for number in dice.sample(range(size.skus), DIFFERENT)]
    asks = [REST.one(sku) for sku in codes]
    bodies = [ask(target.port, what) for what in asks]
    if [orjson.loads(body)["data"]["sku"] for body in bodies] != codes:
        message = "a response has another SKU than its request"
        raise WrongAnswer(message)
    return Load(asks, expected=frozenset(bodies))
