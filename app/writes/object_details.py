"""Decisions on external ids and metadata of SKUs and warehouses."""

from collections.abc import Sequence
from typing import Final

from app.domain.object_details import (
    NO_DETAILS,
    DetailsChange,
    ExternalIdRecord,
    ObjectDetails,
    ObjectKey,
    ObjectKind,
    changed_details,
)
from app.domain.stock import Stock
from app.errors import ExternalIdTaken, InventoryError
from app.writes.decisions import Needs

UNCHANGED_DETAILS: Final = DetailsChange()


def needs_of_details(key: ObjectKey, change: DetailsChange) -> Needs:
    """Return the rows of the details that a change of them needs."""
    if change.is_empty:
        return Needs()
    kind, _ = key
    return Needs(details=[key], external_ids=[(kind, id_) for id_ in change.ids])


def decide_details(
    stock: Stock, key: ObjectKey, change: DetailsChange
) -> ObjectDetails | InventoryError:
    """Decide on a change of the details of an object.

    Returns the details after the change, or its refusal.
    """
    before = stock.details.get(key, NO_DETAILS)
    try:
        after = changed_details(before, change)
    except InventoryError as refusal:
        return refusal
    kind, id_ = key
    taken = [
        (new, owner)
        for new in after.external_ids
        if (owner := stock.owners.get((kind, new), id_)) != id_
    ]
    return _taken(kind, taken) if taken else after


def _taken(kind: ObjectKind, taken: Sequence[tuple[ExternalIdRecord, str]]) -> ExternalIdTaken:
    first, owner = taken[0]
    name = "SKU" if kind is ObjectKind.SKU else "warehouse"
    field = "sku" if kind is ObjectKind.SKU else "warehouse_id"
    return ExternalIdTaken(
        f"The external id {str(first)!r} belongs to {name} {owner!r}. Remove it there first.",
        details=[
            {"namespace": id_.namespace, "value": id_.value, field: each} for id_, each in taken
        ],
    )
