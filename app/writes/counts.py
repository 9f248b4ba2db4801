"""Changes of the counts of SKUs and reservations."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from app.database.tables import RESERVATION_COUNT_PARTS
from app.domain.quantities import ARCHIVED_PREFIX, Figures
from app.domain.records import ReservationRecord, ReservationStatus, SkuRecord
from app.domain.stock import LevelKey
from app.writes.rows import ChangedLevel, TableRow


def sku_count_changes(
    before: Mapping[str, SkuRecord],
    after: Mapping[str, SkuRecord],
    levels: Iterable[ChangedLevel],
) -> list[TableRow]:
    """Return the changes of the SKU counts by warehouse and status, sorted.

    An empty warehouse id stands for all warehouses.
    """
    changes: Counter[tuple[str, str]] = Counter()
    for code, record in after.items():
        changes["", _counted_status(before[code], before[code].figures)] -= 1
        changes["", _counted_status(record, record.figures)] += 1
    for old, new in levels:
        if old is not None:
            changes[old.warehouse_id, _counted_status(before[old.sku], old)] -= 1
        changes[new.warehouse_id, _counted_status(after[new.sku], new)] += 1
    return [
        {"warehouse_id": warehouse_id, "status": status, "skus": skus}
        for (warehouse_id, status), skus in sorted(changes.items())
        if skus
    ]


def hold_changes(reservations: Iterable[ReservationRecord]) -> Mapping[LevelKey, int]:
    """Return the changes of the number of reservations that hold a level, by level."""
    changes: Counter[LevelKey] = Counter()
    for reservation in reservations:
        for line in reservation.lines:
            changes[line.sku, line.warehouse_id] += _open_change(reservation)
    return changes


def reservation_count_changes(reservations: Sequence[ReservationRecord]) -> list[TableRow]:
    """Return the changes of the reservation counts by reference and status.

    An empty reference stands for all reservations. Each change goes to one part of its count, so
    that concurrent writers rarely wait.
    """
    changes: Counter[tuple[str, str]] = Counter()
    for reservation in reservations:
        for reference in {"", reservation.reference or ""}:
            changes[reference, ReservationStatus.OPEN] += _open_change(reservation)
            if reservation.status is not ReservationStatus.OPEN:
                changes[reference, reservation.status] += 1
    part = hash(reservations[0].id) % RESERVATION_COUNT_PARTS
    return [
        {"reference": reference, "status": status, "part": part, "reservations": number}
        for (reference, status), number in changes.items()
        if number
    ]


def _open_change(reservation: ReservationRecord) -> int:
    """Return 1 for a new reservation, -1 for one that ends, 0 for one that stays open."""
    if reservation.status is not ReservationStatus.OPEN:
        return -1
    return 1 if reservation.version == 1 else 0


def _counted_status(record: SkuRecord, figures: Figures) -> str:
    """Return the status under which a SKU or a level is counted; archived ones are separate."""
    return (ARCHIVED_PREFIX if record.archived_at else "") + figures.status
