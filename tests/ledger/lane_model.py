"""A model of the stock: plain numbers, and writes that change them by the rules."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from app.domain.reservations import RequestedLine
from app.domain.stock import OnError, StockUpdate
from app.domain.warehouses import WarehouseType
from app.writes.catalogue import (
    ReorderPoint,
    SafetyStock,
    SkuChange,
    change_sku,
    set_reorder_points,
    set_safety_stock,
    update_warehouse,
)
from app.writes.pipeline import WriteContext
from app.writes.reservations import (
    CommitRequest,
    ReserveRequest,
    commit_reservation,
    release_reservation,
    reserve_stock,
)
from app.writes.stock import bulk_change_stock, change_stock
from app.writes.transfers import Transfer, TransferLine, transfer_stock
from tests.graphql.model import status_of, sum_of
from tests.service import warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
MARKET: Final = warehouse("Market", WarehouseType.FBA)
WAREHOUSES: Final = (MAIN, OTHER, MARKET)
UNKNOWN: Final = warehouse("Unknown").id
REFERENCE: Final = "order"

Level = tuple[str, str]


@dataclass
class Held:
    """A reservation."""

    lines: Mapping[Level, int]
    status: str = "open"


@dataclass
class Model:
    """The stock of a tenant."""

    codes: Sequence[str]
    # The counts of each level in order; a level without one has been configured only.
    counts: dict[Level, list[int]] = field(default_factory=dict)
    safety: Counter[Level] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    archived: set[str] = field(default_factory=set)
    reorder: dict[Level, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    unsellable: set[str] = field(default_factory=set)
    held: dict[str, Held] = field(default_factory=dict)

    def on_hand(self, level: Level) -> int:
        """Return the last count of a level."""
        return self.counts[level][-1] if self.counts.get(level) else 0

    def holding(self, level: Level) -> list[int]:
        """Return the quantities that open reservations hold of a level."""
        held = (it.lines.get(level, 0) for it in self.held.values() if it.status == "open")
        return [quantity for quantity in held if quantity]

    def reserved(self, level: Level) -> int:
        """Return the reserved quantity of a level."""
        return sum(self.holding(level))

    def figures(self, *levels: Level) -> tuple[int, int, int]:
        """Return the sums of on_hand, reserved and safety stock of some levels."""
        return (
            sum(map(self.on_hand, levels)),
            sum(map(self.reserved, levels)),
            sum(self.safety[level] for level in levels),
        )

    def sells(self, level: Level) -> bool:
        """Whether the stock of a level is for sale."""
        return level[1] not in self.closed | self.unsellable

    def status(self, levels: Sequence[Level]) -> str:
        """Return the status of some levels."""
        for_sale = [level for level in levels if self.sells(level)]
        return status_of(*self.figures(*for_sale), sum_of(map(self.reorder.get, for_sale)))

    def shown(self, code: str) -> list[object]:
        """Return the values of a SKU that depend on the warehouses that sell."""
        levels = [level for level in self.counts if level[0] == code]
        for_sale = [level for level in levels if self.sells(level)]
        return [
            self.status(levels),
            sum_of(map(self.reorder.get, for_sale)),
            *((self.status([level]), self.available(level)) for level in levels),
        ]

    def available(self, level: Level) -> int:
        """Return the available quantity of a level."""
        on_hand, reserved, safety = self.figures(level)
        return on_hand - reserved - safety if self.sells(level) else 0

    def unknown(self, level: Level) -> str | None:
        """Return the refusal of a level that cannot exist."""
        if level[0] not in self.codes:
            return "INVENTORY_NOT_FOUND"
        is_known = any(level[1] == it.id for it in WAREHOUSES)
        return None if is_known else "WAREHOUSE_NOT_FOUND"

    def count(self, level: Level, quantity: int) -> str | None:
        """Set a level, or return its refusal."""
        if refusal := self.unknown(level):
            return refusal
        if level[1] == MARKET.id:
            return "READONLY_WAREHOUSE"
        if quantity < 0:
            return "NEGATIVE_QUANTITY"
        if quantity > self.on_hand(level):
            if level[1] in self.closed:
                return "WAREHOUSE_INACTIVE"
            if level[0] in self.archived:
                return "SKU_ARCHIVED"
        self.counts.setdefault(level, []).append(quantity)
        self.versions[level[0]] += 1
        return None

    def hold(self, level: Level, quantity: int) -> str | None:
        """Return the refusal of a line of a reservation, if any."""
        if refusal := self.unknown(level):
            return refusal
        if level[1] == MARKET.id:
            return "READONLY_WAREHOUSE"
        if level[1] in self.closed:
            return "WAREHOUSE_INACTIVE"
        if level[1] in self.unsellable:
            return "WAREHOUSE_NOT_SELLABLE"
        if level[0] in self.archived:
            return "SKU_ARCHIVED"
        return "INSUFFICIENT_STOCK" if quantity > self.available(level) else None

    def touch(self, level: Level) -> None:
        """Create a level if it is missing, and raise the version of its SKU."""
        self.counts.setdefault(level, [])
        self.versions[level[0]] += 1

    def sku_counts(self) -> Counter[tuple[str, str]]:
        """Return the numbers of SKUs by warehouse (empty: all) and status."""
        numbers: Counter[tuple[str, str]] = Counter()
        for code in self.codes:
            prefix = "archived_" if code in self.archived else ""
            levels = [level for level in self.counts if level[0] == code]
            for name, group in [("", levels), *((level[1], [level]) for level in levels)]:
                numbers[name, prefix + self.status(group).lower()] += 1
        return numbers


@dataclass(frozen=True)
class Op(ABC):
    """A write."""

    @abstractmethod
    async def send(self, context: WriteContext) -> Any:
        """Carry out the write."""

    @abstractmethod
    def refusal(self, model: Model) -> str | None:
        """Change the model, or return the code of the refusal."""

    def apply(self, model: Model) -> str | None:
        """Change the model or, if the write is refused, leave it. Returns the code."""
        after = deepcopy(model)
        code = self.refusal(after)
        if code is None:
            vars(model).update(vars(after))
        return code


@dataclass(frozen=True)
class Step:
    """A new quantity of a level, or a difference."""

    level: Level
    number: int
    by_delta: bool

    @property
    def update(self) -> StockUpdate:
        code, warehouse_id = self.level
        name = "delta" if self.by_delta else "quantity"
        numbers: dict[str, Any] = {name: self.number}
        return StockUpdate(sku=code, warehouse_id=warehouse_id, reason="correction", **numbers)

    def apply(self, model: Model) -> str | None:
        start = model.on_hand(self.level) if self.by_delta else 0
        return model.count(self.level, start + self.number)


@dataclass(frozen=True)
class Change(Op):
    step: Step

    async def send(self, context: WriteContext) -> Any:
        return await change_stock(
            context.database, context.caller, self.step.update, key=context.key
        )

    def refusal(self, model: Model) -> str | None:
        return self.step.apply(model)


@dataclass(frozen=True)
class Bulk(Op):
    steps: tuple[Step, ...]
    on_error: OnError

    async def send(self, context: WriteContext) -> Any:
        return await bulk_change_stock(
            context.database,
            context.caller,
            [step.update for step in self.steps],
            on_error=self.on_error,
            key=context.key,
        )

    def refusal(self, model: Model) -> str | None:
        refusals = [code for step in self.steps if (code := step.apply(model))]
        return refusals[0] if refusals and self.on_error is OnError.ABORT else None


@dataclass(frozen=True)
class Move(Op):
    source: str
    destination: str
    lines: tuple[tuple[str, int], ...]

    async def send(self, context: WriteContext) -> Any:
        moved = Transfer(
            source=self.source,
            destination=self.destination,
            lines=tuple(TransferLine(*line) for line in self.lines),
            reason="move",
        )
        return await transfer_stock(context.database, context.caller, moved, key=context.key)

    def refusal(self, model: Model) -> str | None:
        refusals = [
            Step((code, warehouse_id), number, by_delta=True).apply(model)
            for code, quantity in self.lines
            for warehouse_id, number in ((self.source, -quantity), (self.destination, quantity))
        ]
        return next(filter(None, refusals), None)


@dataclass(frozen=True)
class Reserve(Op):
    lines: tuple[tuple[Level, int], ...]
    is_referenced: bool

    async def send(self, context: WriteContext) -> Any:
        wanted = ReserveRequest(
            lines=tuple(
                RequestedLine(code, (id_,), quantity) for (code, id_), quantity in self.lines
            ),
            seconds=86_400,
            reference=REFERENCE if self.is_referenced else None,
        )
        return await reserve_stock(context, wanted)

    def refusal(self, model: Model) -> str | None:
        refusals = [model.hold(*line) for line in self.lines]
        if refusal := next(filter(None, refusals), None):
            return refusal
        for level, _ in self.lines:
            model.touch(level)
        return None


@dataclass(frozen=True)
class End(Op):
    """The commit or the release of a reservation."""

    id: str
    is_commit: bool

    async def send(self, context: WriteContext) -> Any:
        if self.is_commit:
            wanted = CommitRequest(id=self.id, lines=None, reason="sold")
            return await commit_reservation(context, wanted)
        return await release_reservation(context, self.id)

    def refusal(self, model: Model) -> str | None:
        held = model.held[self.id]
        if held.status != "open":
            return "RESERVATION_ENDED"
        held.status = "committed" if self.is_commit else "released"
        for level in held.lines:
            model.touch(level)
        taken = held.lines.items() if self.is_commit else ()
        refusals = [Step(level, -number, by_delta=True).apply(model) for level, number in taken]
        return next(filter(None, refusals), None)


@dataclass(frozen=True)
class Keep(Op):
    """A new safety stock of a level."""

    level: Level
    quantity: int

    async def send(self, context: WriteContext) -> Any:
        return await set_safety_stock(context, [SafetyStock(*self.level, self.quantity)])

    def refusal(self, model: Model) -> str | None:
        if refusal := model.unknown(self.level):
            return refusal
        if self.level not in model.counts or model.safety[self.level] != self.quantity:
            model.touch(self.level)
            model.safety[self.level] = self.quantity
        return None


@dataclass(frozen=True)
class Reorder(Op):
    """A new reorder point of a level; None removes it."""

    level: Level
    quantity: int | None

    async def send(self, context: WriteContext) -> Any:
        return await set_reorder_points(context, [ReorderPoint(*self.level, self.quantity)])

    def refusal(self, model: Model) -> str | None:
        if refusal := model.unknown(self.level):
            return refusal
        if self.level not in model.counts or model.reorder.get(self.level) != self.quantity:
            model.touch(self.level)
            if self.quantity is None:
                model.reorder.pop(self.level, None)
            else:
                model.reorder[self.level] = self.quantity
        return None


@dataclass(frozen=True)
class Archive(Op):
    code: str
    is_archived: bool

    async def send(self, context: WriteContext) -> Any:
        change = SkuChange(sku=self.code, is_archived=self.is_archived)
        return await change_sku(context, "archiveSku", change)

    def refusal(self, model: Model) -> str | None:
        if self.code not in model.codes:
            return "INVENTORY_NOT_FOUND"
        if (self.code in model.archived) is not self.is_archived:
            model.versions[self.code] += 1
            (model.archived.add if self.is_archived else model.archived.discard)(self.code)
        return None


@dataclass(frozen=True)
class Turn(Op):
    """A change of whether a warehouse is active, or whether it is sellable."""

    warehouse_id: str
    is_sellable: bool | None = None
    is_active: bool | None = None

    async def send(self, context: WriteContext) -> Any:
        changes = {"is_sellable": self.is_sellable, "is_active": self.is_active}
        given = {name: value for name, value in changes.items() if value is not None}
        return await update_warehouse(context, self.warehouse_id, given)

    def refusal(self, model: Model) -> str | None:
        before = {code: model.shown(code) for code in model.codes}
        for value, ids in ((self.is_sellable, model.unsellable), (self.is_active, model.closed)):
            if value is not None:
                (ids.discard if value else ids.add)(self.warehouse_id)
        for code, shown in before.items():
            model.versions[code] += shown != model.shown(code)
        return None
