"""Importing SKUs, warehouses, stock levels and counts from files.

A file is validated as a whole before anything is written; then it is written in batches, each a
transaction of its own. Every batch decides anew under its locks, and what is there already is left
alone, so an import that was ended goes on when it is started again.

A count is an event, so what has it is marked: its ledger entry carries the id of the run, which is
made of the file's content. It stays there for good, unlike an idempotency key.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, Protocol

from msgspec.structs import replace
from sqlalchemy import BigInteger, Boolean, Select, Text, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Insert, Update
from ulid import ULID

from app.database.clocks import Present
from app.database.engine import Database
from app.database.parameters import as_json, in_key_array, rows_from
from app.database.session import EngineSession, Session
from app.database.tables import adjustment, sku, warehouse
from app.database.transactions import Conflict
from app.domain.ids import ulid
from app.domain.quantities import Status
from app.domain.records import AdjustmentRecord, LevelRecord, SkuRecord, WarehouseRecord
from app.domain.stock import Stock, check_archived, check_new_on_hand
from app.domain.warehouses import WarehouseType, warehouse_not_found
from app.errors import InventoryError, ValidationFailed
from app.files.parsing import FileKind, FileRow, ReportRows, Staging
from app.reads.warehouses import warehouse_record, warehouses_by_id
from app.writes.posting import Posting, post
from app.writes.statements import INSERTS, ONE, TENANT_PARAMETER, ColumnTypes, counting
from app.writes.stock_reading import await_writes_into, read_stock

# So few that the locks of a batch are in nobody's way for long.
IMPORT_BATCH_ROWS: Final = 1_000
FileRows = Sequence[tuple[int, FileRow]]
Write = Callable[[Session], Any]
NEW_SKUS: Final[ColumnTypes] = {"sku": Text(), "title": Text(), "status": Text()}
TITLES: Final[ColumnTypes] = {
    "sku": Text(),
    "title": Text(),
    "version": BigInteger(),
}
WAREHOUSE_COLUMN_TYPES: Final[ColumnTypes] = {
    "id": Text(),
    "name": Text(),
    "type": Text(),
    "address": Text(),
    "marketplace": Text(),
    "is_active": Boolean(),
}


@dataclass(kw_only=True)
class ImportTally:
    """What becomes, or would become, of the rows of a file."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    # Counts that an earlier start of the same run has written.
    already_imported: int = 0

    def add(self, other: "ImportTally") -> None:
        """Add the rows of another."""
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRun:
    """An import: into which tenant, and who the ledger says has done it."""

    tenant: str
    kind: FileKind
    id: str
    created_by: str


@dataclass(slots=True)
class Decided:
    """What a batch comes to."""

    tally: ImportTally = field(default_factory=ImportTally)
    problems: list[tuple[int, str]] = field(default_factory=list)
    write: Write | None = None


class Decide(Protocol):
    """Reads what there is, `locked` until the transaction ends if asked for, and decides."""

    async def __call__(
        self, session: Session, run: ImportRun, rows: FileRows, *, locked: bool
    ) -> Decided:
        """Return what a batch comes to."""


class FileRefused(Exception):
    """A file has bad rows, and nothing was changed."""


def run_of(staging: Staging, tenant: str, *, name: str, created_by: str) -> ImportRun:
    """Return the run of a file: the same for the same content under the same name."""
    parts = f"{staging.kind}\n{name}\n{staging.digest}"
    digest = hashlib.sha256(parts.encode()).digest()
    bulk = f"bulk_{ULID.from_bytes(digest[:16])}"
    return ImportRun(tenant=tenant, kind=staging.kind, id=bulk, created_by=created_by)


async def validate(
    database: Database, staging: Staging, run: ImportRun, progress: ReportRows
) -> ImportTally:
    """Hold every row against what there is; problems go to the staging.

    Raises:
        FileRefused: there are bad rows.

    """
    tally, checked = ImportTally(), 0
    for rows in staging.batches(IMPORT_BATCH_ROWS):
        async with database.snapshot() as snapshot:
            decided = await DECIDING[run.kind](snapshot, run, rows, locked=False)
        staging.add_problems(decided.problems)
        tally.add(decided.tally)
        checked += len(rows)
        progress("rows checked", checked)
    if bad := staging.number_of_problems:
        message = f"{bad} of the rows are bad; nothing was changed"
        raise FileRefused(message)
    return tally


async def write(
    database: Database, staging: Staging, run: ImportRun, progress: ReportRows
) -> ImportTally:
    """Write what was validated, a batch after the other.

    Raises:
        InventoryError: a row is refused that was good when it was validated; what was written
            before stays, and the same import goes on from there.

    """
    tally, written = ImportTally(), 0
    for rows in staging.batches(IMPORT_BATCH_ROWS):
        tally.add(await database.transaction(partial(_write_batch, run, rows)))
        if run.kind is FileKind.WAREHOUSES:
            places = [_warehouse(run.tenant, row) for _, row in rows]
            inactive = [place.id for place in places if not place.is_active]
            await await_writes_into(database, run.tenant, inactive)
        written += len(rows)
        progress("rows written", written)
    return tally


async def _write_batch(run: ImportRun, rows: FileRows, connection: AsyncConnection) -> ImportTally:
    session = EngineSession(connection)
    decided = await DECIDING[run.kind](session, run, rows, locked=True)
    if decided.problems:
        line, reason = decided.problems[0]
        message = (
            f"Stock has changed since the file was checked: line {line}: {reason} What was "
            "imported before stays; correct it, and start the import again."
        )
        raise ValidationFailed(message)
    if decided.write is not None and not await decided.write(session):
        raise Conflict
    return decided.tally


async def _decide_stock(
    session: Session, run: ImportRun, rows: FileRows, *, locked: bool
) -> Decided:
    levels = [(row["sku"], row["warehouse_id"]) for _, row in rows]
    before = await read_stock(session, run.tenant, levels, locked=locked)
    codes = sorted({code for code, _ in levels})
    asked = {"tenant": run.tenant, "codes": codes, "run": run.id}
    marked = {tuple(row) for row in await session.rows(_marked(session.dialect), asked)}
    batch = _StockBatch(run, before, is_final=locked)
    for (line, row), level in zip(rows, levels, strict=True):
        if level in marked:
            batch.decided.tally.already_imported += 1
        else:
            batch.take(line, row)
    if batch.after:
        posting = Posting(after=batch.after, entries=batch.entries, at=batch.now)
        batch.decided.write = partial(
            post, claim=None, tenant=run.tenant, before=before, posting=posting
        )
    return batch.decided


class _StockBatch:
    """Stock as it is after the rows so far, by the rules of every other write."""

    def __init__(self, run: ImportRun, before: Stock, *, is_final: bool) -> None:
        self.now = before.now
        self.after: dict[str, SkuRecord] = {}
        self.entries: list[AdjustmentRecord] = []
        self.decided = Decided()
        self._run = run
        self._before = before
        self._is_final = is_final

    def take(self, line: int, row: FileRow) -> None:
        """Apply a row, or say what is wrong with it."""
        record = self.after.get(row["sku"]) or self._before.skus.get(row["sku"])
        place = self._before.warehouses.get(row["warehouse_id"])
        if record is None:
            self._refuse(line, f"SKU {row['sku']!r} does not exist; import SKUs first.")
            return
        if place is None:
            self._refuse(line, warehouse_not_found(row["warehouse_id"]).message)
            return
        held = record.level_in(place.id)
        old = record.level_at(place)
        quantity = row["quantity"] if self._run.kind is FileKind.COUNTS else row["on_hand"]
        if self._run.kind is FileKind.LEVELS and old.version > 0:
            # Between check and write others may have sold: what a level has lived through stays.
            if quantity not in (None, old.on_hand) and not self._is_final:
                self._refuse(
                    line,
                    f"the level holds {old.on_hand} and has a history, which an opening balance "
                    "of another quantity would contradict; import a count.",
                )
                return
            quantity = None
        if quantity is None or (self._run.kind is FileKind.LEVELS and quantity == 0):
            self._settle(record, held, old, row)
        elif error := self._problem(quantity, record, old, place):
            self._refuse(line, error.message)
        else:
            self._enter(record, held, old, row, quantity)

    def _problem(
        self, quantity: int, record: SkuRecord, old: LevelRecord, place: WarehouseRecord
    ) -> InventoryError | None:
        if record.archived_at and (
            error := check_archived(record.sku, quantity, on_hand=old.on_hand)
        ):
            return error
        return check_new_on_hand(
            quantity,
            on_hand=old.on_hand,
            warehouse_id=place.id,
            warehouse_type=place.type,
            is_active=place.is_active,
            # What a marketplace holds has to be opened by somebody, once; it is refused ever after.
            by_marketplace=self._run.kind is FileKind.LEVELS,
        )

    def _refuse(self, line: int, reason: str) -> None:
        self.decided.problems.append((line, reason))

    def _settle(
        self, record: SkuRecord, held: LevelRecord | None, old: LevelRecord, row: FileRow
    ) -> None:
        """Change what no ledger entry is about."""
        new = replace(old, safety_stock=_safety_stock(row, old))
        if new == held:
            self.decided.tally.unchanged += 1
        else:
            self._keep(record, held, new)

    def _enter(
        self,
        record: SkuRecord,
        held: LevelRecord | None,
        old: LevelRecord,
        row: FileRow,
        quantity: int,
    ) -> None:
        """Change what is on hand, with its ledger entry."""
        created_at = max(self.now, old.adjusted_at) if old.adjusted_at else self.now
        new = replace(
            old,
            on_hand=quantity,
            safety_stock=_safety_stock(row, old),
            version=old.version + 1,
            adjusted_at=created_at,
        )
        usual = "cycle_count" if self._run.kind is FileKind.COUNTS else "initial_stock"
        self.entries.append(
            AdjustmentRecord(
                id=f"adj_{ulid(self.now)}",
                sku=old.sku,
                warehouse_id=old.warehouse_id,
                sequence=new.version,
                before_quantity=old.on_hand,
                after_quantity=quantity,
                reason=row.get("reason") or usual,
                note=row.get("note"),
                created_by=self._run.created_by,
                created_at=created_at,
                bulk_id=self._run.id,
            )
        )
        self._keep(record, held, new)

    def _keep(self, record: SkuRecord, held: LevelRecord | None, new: LevelRecord) -> None:
        self.after[record.sku] = record.with_level(new)
        if held is None:
            self.decided.tally.created += 1
        else:
            self.decided.tally.updated += 1


def _safety_stock(row: FileRow, old: LevelRecord) -> int:
    wanted = row.get("safety_stock")
    return old.safety_stock if wanted is None else int(wanted)


@cache
def _marked(dialect: str) -> Select[Any]:
    """Return what finds the levels of SKUs that have an entry of a run.

    It looks through the history of these SKUs: one by the run would read all of it every time.
    """
    return select(adjustment.c.sku, adjustment.c.warehouse_id).where(
        adjustment.c.tenant_id == TENANT_PARAMETER,
        in_key_array(dialect, adjustment.c.sku, "codes"),
        (adjustment.c.bulk_id + "") == bindparam("run", type_=Text),
    )


async def _decide_skus(
    session: Session, run: ImportRun, rows: FileRows, *, locked: bool
) -> Decided:
    titles = {row["sku"]: row["title"] for _, row in rows}
    asked = {"tenant": run.tenant, "codes": sorted(titles)}
    statement = _titles(session.dialect, locked=locked and session.dialect == "postgresql")
    found = {row.sku: row for row in await session.rows(statement, asked)}
    new = [
        {"sku": code, "title": title, "status": Status.OUT_OF_STOCK}
        for code, title in titles.items()
        if code not in found
    ]
    changed = [
        {"sku": code, "title": title, "version": found[code].version + 1}
        for code, title in titles.items()
        if code in found and found[code].title != title
    ]
    unchanged = len(titles) - len(new) - len(changed)
    tally = ImportTally(created=len(new), updated=len(changed), unchanged=unchanged)
    return Decided(tally, write=partial(_write_skus, run=run, new=new, changed=changed))


async def _write_skus(
    session: Session,
    *,
    run: ImportRun,
    new: Sequence[Mapping[str, object]],
    changed: Sequence[Mapping[str, object]],
) -> bool:
    dialect, mine = session.dialect, {"tenant": run.tenant}
    if new:
        made = await session.rows(_insert_skus(dialect), {**mine, "new": as_json(new)})
        if len(made) < len(new):
            # Somebody else made one of them meanwhile.
            return False
    if changed:
        await session.rows(_update_titles(dialect), {**mine, "changed": as_json(changed)})
    if new:
        counted = {"warehouse_id": "", "status": Status.OUT_OF_STOCK, "skus": len(new)}
        await session.rows(counting(dialect), {**mine, "counts": as_json([counted])})
    return True


@cache
def _titles(dialect: str, *, locked: bool) -> Select[Any]:
    found = (
        select(sku.c.sku, sku.c.title, sku.c.version)
        .where(sku.c.tenant_id == TENANT_PARAMETER, in_key_array(dialect, sku.c.sku, "codes"))
        .order_by(sku.c.sku)
    )
    return found.with_for_update(key_share=True) if locked else found


@cache
def _insert_skus(dialect: str) -> Insert:
    rows = rows_from(dialect, "new", NEW_SKUS)
    names = ["tenant_id", "sku", "title", "status", "version", "created_at", "updated_at"]
    source = select(
        *(TENANT_PARAMETER, rows.c.sku, rows.c.title, rows.c.status),
        *(ONE, Present(), Present().label("updated_at")),
    ).where(rows.c.sku.is_not(None))
    insert: Any = INSERTS[dialect](sku).from_select(names, source.order_by(rows.c.sku))
    made: Insert = insert.on_conflict_do_nothing().returning(sku.c.sku)
    return made


@cache
def _update_titles(dialect: str) -> Update:
    rows = rows_from(dialect, "changed", TITLES)
    return (
        update(sku)
        .where(sku.c.tenant_id == TENANT_PARAMETER, sku.c.sku == rows.c.sku)
        .values(title=rows.c.title, version=rows.c.version, updated_at=Present())
    )


async def _decide_warehouses(
    session: Session, run: ImportRun, rows: FileRows, *, locked: bool
) -> Decided:
    wanted = [(line, _warehouse(run.tenant, row)) for line, row in rows]
    asked = {"tenant_id": run.tenant, "ids": [place.id for _, place in wanted]}
    found = await session.rows(warehouses_by_id(session.dialect), asked)
    known = {record.id: record for record in map(warehouse_record, found)}
    decided = Decided()
    for line, place in wanted:
        old = known.get(place.id)
        if old is not None and old.type is not place.type:
            decided.problems.append(
                (line, f"type is {old.type} and cannot change; another warehouse is needed.")
            )
    changed = [place for _, place in wanted if known.get(place.id) != place]
    decided.tally.created = sum(place.id not in known for place in changed)
    decided.tally.updated = len(changed) - decided.tally.created
    decided.tally.unchanged = len(wanted) - len(changed)
    decided.write = partial(_write_warehouses, run=run, places=changed)
    return decided


def _warehouse(tenant: str, row: FileRow) -> WarehouseRecord:
    # Without an id it has one of its name's own, so that it is the same when it comes again.
    by_name = hashlib.sha256(f"{tenant}\n{row['name']}".encode()).digest()
    is_active = row["is_active"]
    return WarehouseRecord(
        row["id"] or f"wh_{ULID.from_bytes(by_name[:16])}",
        row["name"],
        WarehouseType(row["type"]),
        row["address"],
        row["marketplace"],
        is_active=True if is_active is None else is_active,
    )


async def _write_warehouses(
    session: Session, *, run: ImportRun, places: Sequence[WarehouseRecord]
) -> bool:
    rows = [
        {
            "id": place.id,
            "name": place.name,
            "type": place.type,
            "address": place.address,
            "marketplace": place.marketplace,
            "is_active": place.is_active,
        }
        for place in sorted(places, key=lambda place: place.id)
    ]
    if rows:
        parameters = {"tenant": run.tenant, "warehouses": as_json(rows)}
        await session.rows(_upsert_warehouses(session.dialect), parameters)
    return True


@cache
def _upsert_warehouses(dialect: str) -> Insert:
    rows = rows_from(dialect, "warehouses", WAREHOUSE_COLUMN_TYPES)
    names = ["tenant_id", *WAREHOUSE_COLUMN_TYPES, "created_at"]
    source = (
        select(TENANT_PARAMETER, *rows.c, Present())
        .where(rows.c["id"].is_not(None))
        .order_by(rows.c["id"])
    )
    insert: Any = INSERTS[dialect](warehouse).from_select(names, source)
    replaced: Insert = insert.on_conflict_do_update(
        index_elements=["tenant_id", "id"],
        set_={
            name: insert.excluded[name] for name in ("name", "address", "marketplace", "is_active")
        },
    )
    return replaced


DECIDING: Final[Mapping[FileKind, Decide]] = {
    FileKind.SKUS: _decide_skus,
    FileKind.WAREHOUSES: _decide_warehouses,
    FileKind.LEVELS: _decide_stock,
    FileKind.COUNTS: _decide_stock,
}
