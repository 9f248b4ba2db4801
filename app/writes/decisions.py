"""Writes as values: the rows that a write needs, and its decision."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic

from app.database.session import Session
from app.domain.caller import Caller
from app.domain.object_details import ExternalIdRecord, ObjectKey, ObjectKind
from app.domain.stock import UNCHANGED, Changes, Stock
from app.errors import InventoryError
from app.writes.idempotency_keys import Result, WriteRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The keys of the rows that a write reads; rows that do not exist are absent from the stock."""

    skus: Collection[str] = ()
    # Whether codes like the missing ones are read, for the refusal of an unknown SKU.
    finds_similar_codes: bool = True
    warehouses: Collection[str] = ()
    # Read with their lines, and with the SKUs of the lines.
    reservations: Collection[str] = ()
    # Whether the write is a batch of its own without a deadline: it may change all SKUs of a
    # warehouse.
    is_alone: bool = False
    # The objects whose details are read, and external ids whose objects are found.
    details: Collection[ObjectKey] = ()
    external_ids: Collection[tuple[ObjectKind, ExternalIdRecord]] = ()
    # Reads rows whose keys the request does not contain, and returns the needs of these rows.
    find: "Find | None" = None
    # The ids of reversed adjustments that `find` has read, each with that of its reversal.
    reversals: Mapping[str, str] = field(default_factory=dict)


Find = Callable[[Session], Awaitable[Needs]]


@dataclass(frozen=True, slots=True)
class Decision(Generic[Result]):
    """The outcome of a write, a result or a refusal, and its changes."""

    outcome: Result | InventoryError
    changes: Changes = UNCHANGED


# Decides by the rules. A refusal that is returned is stored under the idempotency key; one that is
# raised is not.
Decide = Callable[[Stock], Decision[Result]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write(Generic[Result]):
    """A write of a caller, with its idempotency key if it has one."""

    caller: Caller
    key: str | None
    request: WriteRequest[Result]
    needs: Needs
    decide: Decide[Result]

    def decide_on(self, stock: Stock) -> Decision[Result]:
        """Return the decision by the rules, with the positions of its entries."""
        decision = self.decide(stock)
        stock.number(decision.changes.entries)
        return decision
