"""Posting changes of stock: how what was read becomes levels, ledger, SKUs and counts.

SQLite has one writer at a time: its transaction begins by keeping all others out, and each table
is written by a statement.

PostgreSQL reads without a lock and posts in a single statement, which commits by itself: it locks
the SKU rows, sorted, so that two writers never wait for each other in a circle; it goes on only if
it got all of them in the versions that were read, and if the idempotency key is new; then it
writes, counts last because they are shared. If stock has moved in between, nothing is written,
and the same is done over in a transaction that locks first and reads then. There, what is about
many SKUs is posted in two statements; the outcome is encoded while the first is carried out.

Every change of a level raises the version of its SKU, so the version stands for all its levels.
That includes the hash of its last entry, to which `post` chains the ones that it writes.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any, Final, cast

from msgspec import structs
from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.types import TypeEngine

from app.chain import POSTED_WITHIN, link
from app.clocks import Present, uptime
from app.commands.idempotency import FEW, KEY_LOCK, Claim, claiming, post_claim
from app.database import Database, as_json, rows_from, texts_in
from app.models import (
    LEVEL,
    PARTS,
    UtcDateTime,
    adjustment,
    as_text,
    reservation,
    reservation_count,
    reservation_line,
    sku,
    sku_count,
    stock_level,
    warehouse,
)
from app.queries import (
    reservation_records,
    reservations_by_id,
    sku_records,
    skus_by_code,
    warehouse_record,
    warehouses_by_id,
)
from app.records import (
    AdjustmentRecord,
    LevelRecord,
    ReservationRecord,
    ReservationStatus,
    SkuRecord,
    WarehouseRecord,
)
from app.sessions import Session
from app.stock import ARCHIVED, Figures

LevelKey = tuple[str, str]
Columns = dict[str, TypeEngine[Any]]
Row = Mapping[str, object]

ONE: Final = literal_column("1", BigInteger)
NOTHING: Final = select(ONE.label("one")).cte("nothing")
TENANT: Final = bindparam("tenant", type_=Text)
# ON CONFLICT is no part of standard SQL.
INSERTS: Final = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
SKUS: Final[Columns] = {
    "sku": Text(),
    "status": Text(),
    "version": BigInteger(),
    "updated_at": UtcDateTime(),
    "title": Text(),
    "archived_at": UtcDateTime(),
    "version_before": BigInteger(),
}
LEVELS: Final[Columns] = {
    "sku": Text(),
    "warehouse_id": Text(),
    "on_hand": BigInteger(),
    "reserved": BigInteger(),
    "safety_stock": BigInteger(),
    "status": Text(),
    "version": BigInteger(),
    "adjusted_at": UtcDateTime(),
    "synced_at": UtcDateTime(),
    "archived_at": UtcDateTime(),
    "last_hash": Text(),
    "holds": BigInteger(),
}
ADJUSTMENTS: Final[Columns] = {
    "id": Text(),
    "sku": Text(),
    "warehouse_id": Text(),
    "sequence": BigInteger(),
    "before_quantity": BigInteger(),
    "after_quantity": BigInteger(),
    "delta": BigInteger(),
    "reason": Text(),
    "note": Text(),
    "created_by": Text(),
    "created_at": UtcDateTime(),
    "bulk_id": Text(),
    "transfer_id": Text(),
    "reservation_id": Text(),
    "reversal_of": Text(),
    "reference": Text(),
    "hash": Text(),
}
RESERVATIONS: Final[Columns] = {
    "id": Text(),
    "status": Text(),
    "reference": Text(),
    "note": Text(),
    "created_by": Text(),
    "created_at": UtcDateTime(),
    "expires_at": UtcDateTime(),
    "ended_at": UtcDateTime(),
    "version": BigInteger(),
}
LINES: Final[Columns] = {
    "reservation_id": Text(),
    "sku": Text(),
    "warehouse_id": Text(),
    "quantity": BigInteger(),
    "held": BigInteger(),
    "committed": BigInteger(),
}
RESERVATION_COUNTS: Final[Columns] = {
    "reference": Text(),
    "status": Text(),
    "part": BigInteger(),
    "reservations": BigInteger(),
}
COUNTS: Final[Columns] = {"warehouse_id": Text(), "status": Text(), "skus": BigInteger()}


@dataclass(frozen=True, slots=True)
class Rows:
    """What the tables are told of a SKU that is written."""

    sku: Row
    levels: Sequence[Row]
    adjustments: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What a write comes to: SKUs as they are after it, by code, and its ledger entries."""

    after: Mapping[str, SkuRecord]
    entries: Sequence[AdjustmentRecord]
    at: datetime
    # By how many more reservations each level is held.
    holds: Mapping[LevelKey, int] = field(default_factory=dict)
    # Of the SKUs whose rows were made up ahead.
    rows: Mapping[str, Rows] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a write has to do."""

    is_claimed: bool
    is_counted: bool
    is_filling: bool
    is_of_new_levels: bool


@dataclass(frozen=True, slots=True)
class Stock:
    """What the database holds of the SKUs and warehouses that a write is about."""

    skus: Mapping[str, SkuRecord]
    warehouses: Mapping[str, WarehouseRecord]
    # Of the last entry of every level that has one.
    hashes: Mapping[LevelKey, str]
    # Whether nobody else may change the SKUs until the transaction ends.
    is_locked: bool
    # By the database's clock, when the first of them was read; and then by the machine's uptime.
    now: datetime
    read_at: float


async def read_stock(
    session: Session, tenant: str, levels: Sequence[LevelKey], *, locked: bool
) -> Stock:
    """Return what there is, and before that, if asked for, lock it."""
    dialect, read_at = session.dialect, uptime()
    codes = sorted({code for code, _ in levels})
    asked = {"tenant_id": tenant, "codes": codes}
    if locked and dialect == "postgresql":
        # A statement of its own: the next one sees what this one waited for.
        await session.rows(_lock_skus(), asked)
    [row] = await session.rows(_stock_by_code(dialect), asked)
    skus = {record.sku: record for record in sku_records(row)}
    hashes = {}
    places = {}
    for code, record in skus.items():
        for level in record.levels:
            places[level.warehouse_id] = level.warehouse
            if level.last_hash:
                hashes[code, level.warehouse_id], level.last_hash = level.last_hash, None
    # No id: it is about the SKU alone.
    if unseen := {id_ for _, id_ in levels if id_} - places.keys():
        places |= await _read_warehouses(session, tenant, unseen)
    return Stock(skus, places, hashes, locked, row.now, read_at)


async def _read_warehouses(
    session: Session, tenant: str, ids: Iterable[str]
) -> dict[str, WarehouseRecord]:
    asked = {"tenant_id": tenant, "ids": sorted(ids)}
    rows = await session.rows(warehouses_by_id(session.dialect), asked)
    return {row.id: warehouse_record(row) for row in rows}


async def lock_stock(
    session: Session, tenant: str, levels: Sequence[LevelKey], known: Stock
) -> tuple[Stock, frozenset[str]]:
    """Lock SKUs on PostgreSQL; return what there is now, and which of them to decide on anew.

    Those are the ones that are not as they are known: all, if a warehouse is not.
    """
    codes = sorted({code for code, _ in levels})
    locked = await session.rows(_lock_skus(), {"tenant_id": tenant, "codes": codes})
    versions = {code: record.version for code, record in known.skus.items()}
    moved = frozenset(row.sku for row in locked if versions.get(row.sku) != row.version)
    ids = known.warehouses.keys() | {id_ for _, id_ in levels}
    if await _read_warehouses(session, tenant, ids) != known.warehouses:
        moved = frozenset(codes)
    now = known
    if moved:
        of_moved = [level for level in levels if level[0] in moved]
        now = await read_stock(session, tenant, of_moved, locked=False)
    return Stock(
        {**known.skus, **now.skus},
        {**known.warehouses, **now.warehouses},
        {**known.hashes, **now.hashes},
        is_locked=True,
        now=now.now,
        read_at=known.read_at,
    ), moved


async def post(
    session: Session, claim: Claim | None, *, tenant: str, before: Stock, posting: Posting
) -> bool:
    """Write changes and claim their key; False if that cannot be.

    Nor what was decided so long ago that a head may have been taken of the ledger of that time.
    Nothing is written then, or what is must not be committed.
    """
    if posting.entries and uptime() - before.read_at > POSTED_WITHIN.total_seconds():
        return False
    after = posting.after
    changed = _changed_levels(before.skus, after)
    moved = _moved_counts(before.skus, after, changed)
    filled = _filled(changed)
    shape = Shape(
        is_claimed=claim is not None,
        is_counted=bool(moved),
        is_filling=bool(filled),
        is_of_new_levels=any(old is None for old, _ in changed),
    )
    if len(posting.entries) > FEW:
        # Other tasks have their turns between the parts of long work.
        await asyncio.sleep(0)
    # In the order of most indexes.
    rows = [it for _, it in sorted(rows_of(tenant, before, posting).items())]
    parameters = {
        "tenant": tenant,
        "number_of_skus": len(rows),
        "skus": as_json(each.sku for each in rows),
        "levels": as_json(level for each in rows for level in each.levels),
        "adjustments": as_json(entry for each in rows for entry in each.adjustments),
        "counts": as_json(moved),
        "filled": filled,
        "number_of_filled": len(filled),
    }
    if session.dialect == "postgresql" and not (before.is_locked and len(rows) > FEW):
        parameters |= claim.parameters if claim else {}
        return bool(await session.rows(_post_at_once(shape), parameters))
    levels, others = _post_in_turn(session.dialect, shape)
    writing = asyncio.create_task(session.rows(levels, parameters))
    try:
        # It sets out, and meanwhile the outcome is encoded.
        await asyncio.sleep(0)
        parameters = parameters | (claim.parameters if claim else {})
    finally:
        await writing
    told = [row for statement in others for row in await session.rows(statement, parameters)]
    # SQLite returns no row where no key is claimed.
    return bool(told) or (claim is None and session.dialect == "sqlite")


def rows_of(tenant: str, before: Stock, posting: Posting) -> dict[str, Rows]:
    """Return what the tables are told, by SKU; of what was made up ahead, that."""
    after = {code: it for code, it in posting.after.items() if code not in posting.rows}
    entries: dict[str, list[Row]] = {code: [] for code in after}
    last = {**before.hashes}
    for entry in posting.entries:
        if entry.sku in after:
            row = _adjustment_row(entry)
            level = entry.sku, entry.warehouse_id
            row["hash"] = last[level] = link(last.get(level), tenant, row)
            entries[entry.sku].append(row)
    levels: dict[str, list[Row]] = {code: [] for code in after}
    for _, new in _changed_levels(before.skus, after):
        level = new.sku, new.warehouse_id
        row = _level_row(new, after[new.sku], last.get(level), posting.holds.get(level, 0))
        levels[new.sku].append(row)
    return {code: it for code, it in posting.rows.items() if code in posting.after} | {
        code: Rows(_sku_row(record, before.skus[code], posting.at), levels[code], entries[code])
        for code, record in after.items()
    }


async def read_reservations(
    session: Session, tenant: str, ids: Sequence[str], *, locked: bool
) -> tuple[dict[str, ReservationRecord], datetime | None]:
    """Return reservations by id, `locked` if nobody else may change them meanwhile.

    And the present, if there are any.

    They are locked before any SKU is, by whoever needs both.
    """
    asked = {"tenant_id": tenant, "ids": ids}
    if locked and session.dialect == "postgresql":
        await session.rows(_lock_reservations(), asked)
    rows = await session.rows(_timed_reservations(session.dialect), asked)
    records = reservation_records(row[:-1] for row in rows)
    return {record.id: record for record in records}, rows[0].now if rows else None


async def post_reservations(
    session: Session,
    claim: Claim | None,
    *,
    tenant: str,
    before: Stock,
    posting: Posting,
    reservations: Sequence[ReservationRecord],
) -> bool:
    """Write reservations with what they change, and claim the key, within a transaction.

    False, and the transaction must not be committed, if that cannot be.
    """
    if posting.after:
        posting = replace(posting, holds=_moved_holds(reservations))
        is_posted = await post(session, claim, tenant=tenant, before=before, posting=posting)
    else:
        is_posted = claim is None or await post_claim(session, claim)
    if not is_posted:
        return False
    parameters = {
        "tenant": tenant,
        "reservations": as_json(map(_reservation_row, reservations)),
        "lines": as_json(asdict(line) for each in reservations for line in each.lines),
        "counts": as_json(_moved_reservations(reservations)),
    }
    for statement in _write_reservations(session.dialect):
        await session.rows(statement, parameters)
    return True


async def insert_sku(session: Session, claim: Claim | None, *, tenant: str, row: Row) -> bool:
    """Write a SKU without stock and claim its key, within a transaction; False if it exists."""
    if not await session.rows(_insert_sku(session.dialect), row):
        return False
    if claim is not None and not await post_claim(session, claim):
        return False
    counts = as_json([{"warehouse_id": "", "status": row["status"], "skus": 1}])
    await session.rows(counting(session.dialect), {"tenant": tenant, "counts": counts})
    return True


async def lock_warehouse(
    session: Session, tenant: str, id_: str, *, locked: bool
) -> WarehouseRecord | None:
    """Return a warehouse, `locked` if nobody else may change it until the transaction ends."""
    statement = warehouses_by_id(session.dialect)
    if locked and session.dialect == "postgresql":
        statement = statement.with_for_update(key_share=True)
    found = await session.rows(statement, {"tenant_id": tenant, "ids": [id_]})
    return warehouse_record(found[0]) if found else None


async def await_writes_into(database: Database, tenant: str, ids: Sequence[str]) -> None:
    """Wait until no write is under way that found warehouses active which no longer are.

    A deactivation is committed first: writes that begin later see it, so this wait has an end.
    A writer that read the row before and locks it after this gets the version that is left here,
    because an UPDATE under FOR UPDATE conflicts with FOR KEY SHARE; a plain UPDATE does not.
    """
    if database.dialect == "sqlite" or not ids:
        return
    rows = warehouse.c.tenant_id == tenant, warehouse.c.id.in_(ids)

    async def work(connection: AsyncConnection) -> None:
        ordered = select(warehouse.c.id).where(*rows).order_by(warehouse.c.id)
        await connection.execute(ordered.with_for_update())
        unchanged = {"is_active": warehouse.c.is_active}
        await connection.execute(update(warehouse).where(*rows).values(unchanged))

    await database.transaction(work, tenant=tenant)


async def write_warehouse(session: Session, tenant: str, place: WarehouseRecord) -> None:
    """Write a warehouse, a new one or one that is changed."""
    row = {**structs.asdict(place), "type": place.type.value, "tenant_id": tenant}
    await session.rows(_write_warehouse(session.dialect), row)


@cache
def _insert_sku(dialect: str) -> Insert:
    insert = cast("postgresql.Insert", INSERTS[dialect](sku))
    return insert.on_conflict_do_nothing().returning(sku.c.sku)


@cache
def _write_warehouse(dialect: str) -> Insert:
    given = [column for column in warehouse.c if column.name != "created_at"]
    values = {it.name: bindparam(it.name, type_=it.type) for it in given}
    insert = cast("postgresql.Insert", INSERTS[dialect](warehouse))
    insert = insert.values({**values, "created_at": Present()})
    changed = ("name", "address", "marketplace", "is_active")
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", "id"],
        set_={name: insert.excluded[name] for name in changed},
    )


@cache
def counting(dialect: str) -> Insert:
    """Return what adds `counts` to those of a `tenant`."""
    return _add_to(sku_count, dialect, COUNTS, true())


def _changed_levels(
    before: Mapping[str, SkuRecord], after: Mapping[str, SkuRecord]
) -> list[tuple[LevelRecord | None, LevelRecord]]:
    """Return what became of the levels that changed; the others are what they were."""
    return [
        (old, new)
        for code, record in after.items()
        for new in record.levels
        if (old := before[code].level_in(new.warehouse_id)) is not new
        or record.archived_at != before[code].archived_at
    ]


def _filled(changed: Iterable[tuple[LevelRecord | None, LevelRecord]]) -> list[str]:
    """Ids of the warehouses where on_hand or reserved increases: only active ones allow that."""
    return sorted(
        {
            new.warehouse_id
            for old, new in changed
            if new.on_hand > (old.on_hand if old else 0)
            or new.reserved > (old.reserved if old else 0)
        }
    )


def _moved_counts(
    before: Mapping[str, SkuRecord],
    after: Mapping[str, SkuRecord],
    changed: Iterable[tuple[LevelRecord | None, LevelRecord]],
) -> list[dict[str, object]]:
    """Return by how much the counts per warehouse and status change, sorted."""
    moved: Counter[tuple[str, str]] = Counter()
    for code, record in after.items():
        moved["", _counted_as(before[code], before[code].figures)] -= 1
        moved["", _counted_as(record, record.figures)] += 1
    for old, new in changed:
        if old is not None:
            moved[old.warehouse_id, _counted_as(before[old.sku], old)] -= 1
        moved[new.warehouse_id, _counted_as(after[new.sku], new)] += 1
    return [
        {"warehouse_id": warehouse_id, "status": status, "skus": skus}
        for (warehouse_id, status), skus in sorted(moved.items())
        if skus
    ]


def _moved_holds(reservations: Iterable[ReservationRecord]) -> Mapping[LevelKey, int]:
    """Return by how much the holds of levels change."""
    moved: Counter[LevelKey] = Counter()
    for each in reservations:
        for line in each.lines:
            moved[line.sku, line.warehouse_id] += _more_open(each)
    return moved


def _moved_reservations(reservations: Sequence[ReservationRecord]) -> list[dict[str, object]]:
    """Return by how much the counts of reservations change, in one of their parts."""
    moved: Counter[tuple[str, str]] = Counter()
    for each in reservations:
        # Over all, and those that have its reference.
        for reference in {"", each.reference or ""}:
            moved[reference, ReservationStatus.OPEN] += _more_open(each)
            if each.status is not ReservationStatus.OPEN:
                moved[reference, each.status] += 1
    part = hash(reservations[0].id) % PARTS
    return [
        {"reference": reference, "status": status, "part": part, "reservations": number}
        for (reference, status), number in moved.items()
        if number
    ]


def _more_open(written: ReservationRecord) -> int:
    """Return 1 for a reservation that begins, -1 for one that ends, 0 for one that goes on."""
    if written.status is not ReservationStatus.OPEN:
        return -1
    return 1 if written.version == 1 else 0


def _counted_as(record: SkuRecord, figures: Figures) -> str:
    """Return the name under which a SKU, or one of its levels, is counted."""
    return (ARCHIVED if record.archived_at else "") + figures.status


def _level_row(
    level: LevelRecord, record: SkuRecord, last_hash: str | None, holds: int
) -> dict[str, object]:
    return {
        "sku": level.sku,
        "warehouse_id": level.warehouse_id,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "safety_stock": level.safety_stock,
        "status": level.status,
        "version": level.version,
        "adjusted_at": level.adjusted_at and as_text(level.adjusted_at),
        "synced_at": level.synced_at and as_text(level.synced_at),
        "archived_at": record.archived_at and as_text(record.archived_at),
        "last_hash": last_hash,
        "holds": holds,
    }


def _adjustment_row(entry: AdjustmentRecord) -> dict[str, object]:
    return {
        "id": entry.id,
        "sku": entry.sku,
        "warehouse_id": entry.warehouse_id,
        "sequence": entry.sequence,
        "before_quantity": entry.before_quantity,
        "after_quantity": entry.after_quantity,
        "delta": entry.delta,
        "reason": entry.reason,
        "note": entry.note,
        "created_by": entry.created_by,
        "created_at": as_text(entry.created_at),
        "bulk_id": entry.bulk_id,
        "transfer_id": entry.transfer_id,
        "reservation_id": entry.reservation_id,
        "reversal_of": entry.reversal_of,
        "reference": entry.reference,
    }


def _reservation_row(record: ReservationRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "status": record.status,
        "reference": record.reference,
        "note": record.note,
        "created_by": record.created_by,
        "created_at": as_text(record.created_at),
        "expires_at": record.expires_at and as_text(record.expires_at),
        "ended_at": record.ended_at and as_text(record.ended_at),
        "version": record.version,
    }


def _sku_row(record: SkuRecord, before: SkuRecord, at: datetime) -> dict[str, object]:
    return {
        "sku": record.sku,
        "status": record.figures.status,
        "version": record.version,
        "updated_at": as_text(at),
        "title": record.title,
        "archived_at": record.archived_at and as_text(record.archived_at),
        "version_before": before.version,
    }


@cache
def _stock_by_code(dialect: str) -> Select[Any]:
    """Return what finds SKUs with their levels, and the hashes that only a write needs."""
    found = skus_by_code(dialect, narrowed=False, more=(stock_level.c.last_hash,))
    return found.add_columns(Present().label("now"))


@cache
def _lock_skus() -> Select[Any]:
    return (
        select(sku.c.sku, sku.c.version)
        .where(
            sku.c.tenant_id == bindparam("tenant_id", type_=Text),
            texts_in("postgresql", sku.c.sku, "codes"),
        )
        .order_by(sku.c.sku)
        .with_for_update(key_share=True)
    )


@cache
def _timed_reservations(dialect: str) -> Select[Any]:
    return reservations_by_id(dialect).add_columns(Present().label("now"))


@cache
def _lock_reservations() -> Select[Any]:
    return (
        select(reservation.c.id)
        .where(
            reservation.c.tenant_id == bindparam("tenant_id", type_=Text),
            texts_in("postgresql", reservation.c.id, "ids"),
        )
        .order_by(reservation.c.id)
        .with_for_update(key_share=True)
    )


@cache
def _write_reservations(dialect: str) -> Sequence[Insert | Select[Any]]:
    """Return what writes reservations and their lines, new ones or ones that are changed.

    And their counts last, which are shared.
    """
    writes: list[Insert] = []
    for table, name, columns, keys, changed in (
        (
            *(reservation, "reservations", RESERVATIONS, ["tenant_id", "id"]),
            ["status", "expires_at", "ended_at", "version"],
        ),
        (
            *(reservation_line, "lines", LINES),
            ["tenant_id", "reservation_id", "sku", "warehouse_id"],
            ["held", "committed"],
        ),
    ):
        source = select(TENANT, *rows_from(dialect, name, columns).c).where(true())
        insert = cast(
            "postgresql.Insert",
            INSERTS[dialect](table).from_select(["tenant_id", *columns], source),
        )
        set_ = {each: insert.excluded[each] for each in changed}
        writes.append(insert.on_conflict_do_update(index_elements=keys, set_=set_))
    writes.append(_add_to(reservation_count, dialect, RESERVATION_COUNTS, true()))
    if dialect == "sqlite":
        return writes
    return [_together(NOTHING, writes)]


@cache
def _post_at_once(shape: Shape) -> Select[Any]:
    """Return the statement of PostgreSQL that writes all or nothing, and tells which."""
    rows = rows_from("postgresql", "skus", SKUS)
    as_read = and_(sku.c.sku == rows.c.sku, sku.c.version == rows.c.version_before)
    locked = (
        select(sku.c.sku)
        .select_from(sku.join(rows, as_read))
        .where(sku.c.tenant_id == TENANT)
        .order_by(sku.c.sku)
        .with_for_update(key_share=True, of=sku)
    )
    if shape.is_claimed:
        locked = locked.where(_number_of(select(KEY_LOCK.label("held")).cte("key_lock")) == ONE)
    are_all = _number_of(locked.cte("locked")) == bindparam("number_of_skus", type_=BigInteger)
    if shape.is_filling:
        are_all = and_(are_all, _are_active())
    ready = (
        claiming("postgresql", are_all).cte("claimed")
        if shape.is_claimed
        else select(ONE.label("ready")).where(are_all).cte("ready")
    )
    is_ready = _number_of(ready) == ONE
    writes = [*_writes("postgresql", is_ready, shape), *_counts("postgresql", is_ready, shape)]
    return _together(ready, writes)


@cache
def _post_in_turn(dialect: str, shape: Shape) -> tuple[Executable, Sequence[Executable]]:
    """Return what writes levels, and what writes the rest and claims the key."""
    skus, levels, adjustments = _writes(dialect, true(), shape)
    claims = [claiming(dialect, true())] if shape.is_claimed else []
    counts = _counts(dialect, true(), shape)
    if dialect == "sqlite":
        return levels, [skus, adjustments, *claims, *counts]
    are_active = _are_active() if shape.is_filling else true()
    told = (
        claiming(dialect, are_active).cte("claimed")
        if shape.is_claimed
        else select(ONE.label("ready")).where(are_active).cte("ready")
    )
    return levels, [_together(told, [skus, adjustments, *counts])]


def _are_active() -> ColumnElement[bool]:
    """Condition of PostgreSQL that the filled warehouses are active until the transaction ends.

    Writers share the lock. `await_writes_into` waits for it after a warehouse was deactivated.
    """
    active = (
        select(warehouse.c.id)
        .where(
            warehouse.c.tenant_id == TENANT,
            texts_in("postgresql", warehouse.c.id, "filled"),
            warehouse.c.is_active,
        )
        .order_by(warehouse.c.id)
        .with_for_update(read=True, key_share=True)
    )
    return _number_of(active.cte("active")) == bindparam("number_of_filled", type_=BigInteger)


def _together(told: CTE, writes: Sequence[Insert | Update]) -> Select[Any]:
    """Return the statement of PostgreSQL that writes in this order, and returns what it is told."""
    # PostgreSQL begins with the last of those that nothing refers to.
    return select(told).add_cte(*(it.cte(f"written_{n}") for n, it in enumerate(reversed(writes))))


def _number_of(rows: CTE) -> ColumnElement[int]:
    return select(func.count()).select_from(rows).scalar_subquery()


def _writes(dialect: str, condition: ColumnElement[bool], shape: Shape) -> list[Insert | Update]:
    write_levels = _write_new_levels if shape.is_of_new_levels else _write_levels
    return [
        _write_skus(dialect, condition),
        write_levels(dialect, condition),
        _write_adjustments(dialect, condition),
    ]


def _counts(dialect: str, condition: ColumnElement[bool], shape: Shape) -> list[Insert]:
    return [_add_to(sku_count, dialect, COUNTS, condition)] if shape.is_counted else []


def _write_levels(dialect: str, condition: ColumnElement[bool]) -> Update:
    rows = rows_from(dialect, "levels", LEVELS)
    is_same = [
        stock_level.c.tenant_id == TENANT,
        stock_level.c.sku == rows.c.sku,
        stock_level.c.warehouse_id == rows.c.warehouse_id,
    ]
    return update(stock_level).where(*is_same, condition).values(_changed_of_level(rows.c))


def _write_new_levels(dialect: str, condition: ColumnElement[bool]) -> Insert:
    """Return what writes levels of which some may not be there yet: that takes longer."""
    rows = rows_from(dialect, "levels", LEVELS)
    source = select(TENANT, *rows.c).where(condition)
    names = ["tenant_id", *LEVELS]
    # SQLite's INSERT has the same methods.
    insert = cast("postgresql.Insert", INSERTS[dialect](stock_level).from_select(names, source))
    return insert.on_conflict_do_update(
        index_elements=LEVEL,
        set_=_changed_of_level(insert.excluded),
    )


def _changed_of_level(new: ReadOnlyColumnCollection[str, Any]) -> dict[str, ColumnElement[Any]]:
    # A report that changes nothing raises no version, so a write may not know of it yet.
    kept, reported = stock_level.c.synced_at, new.synced_at
    latest = case((reported > kept, reported), else_=func.coalesce(kept, reported))
    more = {"synced_at": latest, "holds": stock_level.c.holds + new.holds}
    return {name: new[name] for name in (*LEVELS,)[2:]} | more


def _write_adjustments(dialect: str, condition: ColumnElement[bool]) -> Insert:
    rows = rows_from(dialect, "adjustments", ADJUSTMENTS)
    source = select(TENANT, *rows.c).where(condition)
    return adjustment.insert().from_select(["tenant_id", *ADJUSTMENTS], source)


def _write_skus(dialect: str, condition: ColumnElement[bool]) -> Update:
    rows = rows_from(dialect, "skus", SKUS)
    return (
        update(sku)
        .where(sku.c.tenant_id == TENANT, sku.c.sku == rows.c.sku, condition)
        .values({name: rows.c[name] for name in (*SKUS,)[1:-1]})
    )


def _add_to(
    counts: Table, dialect: str, columns: Columns, condition: ColumnElement[bool]
) -> Insert:
    """Return what adds to kept counts: the last of their columns, by the others."""
    rows = rows_from(dialect, "counts", columns)
    *keys, number = columns
    # Rows are inserted, and so locked, in this order.
    source = select(TENANT, *rows.c).where(condition).order_by(*(rows.c[name] for name in keys))
    insert = cast(
        "postgresql.Insert",
        INSERTS[dialect](counts).from_select(["tenant_id", *columns], source),
    )
    return insert.on_conflict_do_update(
        index_elements=["tenant_id", *keys],
        set_={number: counts.c[number] + insert.excluded[number]},
    )
