"""The data: SKUs with levels and ledger, computed by the database from the number of each SKU.

SKU number i (from 0) has the code `SKU-<10000000 + i>`, two levels or two to four, and for each
level a history of a fixed length, whose hash chain passes `inventory verify`. The same
statements run on both engines.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.engine import Database
from app.database.session import DriverSession
from app.database.tables import person
from app.domain.caller import Scope
from app.domain.hash_chain import HASHED_COLUMNS
from app.domain.persons import person_id
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files.seeding import load_warehouses
from app.writes.tenants import insert_tenant, insert_token
from tests.engines import transact, writer_of

TENANT: Final = "bench"
TOKEN: Final = f"{TENANT}-write"
EMAIL: Final = "bench@example.com"
SALT: Final = "bench"
AUTHOR: Final = person_id(EMAIL, SALT)
WAREHOUSES: Final = tuple(
    WarehouseRecord(
        f"wh_01J000000000000000000000{letter}0",
        f"Warehouse {letter}",
        WarehouseType.OWN,
        "Street 1",
        None,
        is_active=True,
    )
    for letter in "ABCD"
)
STEP: Final = 100_000
# References of the first adjustment of a level, and of the later ones.
OPENING: Final = "opening"
RECOUNT: Final = "recount"

# on_hand of SKU i in warehouse w (from 0) after n adjustments: small and often 0 in all warehouses
# at once, so that each status has many SKUs.
AFTER: Final = "(i * 7919 + w * 104729 + {n} * 31) % 61 * ((i * 31 + {n}) % 11 / 2) / 4"
TIMES: Final = {
    "postgresql": "timestamptz '2026-01-01 00:00:00Z' + {n} * interval '1 second'",
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', '2026-01-01', '+' || ({n}) || ' seconds')",
}
STATUS: Final = (
    "CASE WHEN {on_hand} - {reserved} <= 0 THEN 'out_of_stock' "
    "WHEN {on_hand} - {reserved} <= {safety} THEN 'critical' "
    "WHEN {on_hand} - {reserved} <= 2 * {safety} THEN 'low' ELSE 'normal' END"
)
AVAILABLE: Final = "{on_hand} - {reserved} - {safety}"
CODE: Final = "'SKU-' || (10000000 + i)"
TENANT_SQL: Final = "CAST(:tenant AS TEXT)"
LAST_OF_LEDGER: Final = (
    "COALESCE((SELECT {column} FROM adjustment WHERE tenant_id = CAST(:tenant AS TEXT) "
    "ORDER BY position DESC LIMIT 1), {default})"
)
NUMBERS: Final = (
    "WITH RECURSIVE numbers(i) AS (SELECT CAST(:first AS BIGINT) "
    "UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < CAST(:end AS BIGINT))"
)
# The hash of `app.domain.hash_chain`: of a JSON array of the previous hash and the `rest`.
# `last` is the JSON of the hash before the first row.
HASHED: Final = {
    "postgresql": "pg_temp.chained({rest}, {last}) OVER (ORDER BY position)",
    "sqlite": "chained({rest}, {last})",
}
CHAINED: Final = (
    """
    CREATE OR REPLACE FUNCTION pg_temp.next_hash(hash text, rest text, last text) RETURNS text
    LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(sha256(convert_to(
      '[' || coalesce('"' || hash || '"', last) || ',' || rest || ']', 'UTF8')), 'hex')
    $$
    """,
    """
    CREATE OR REPLACE AGGREGATE pg_temp.chained(rest text, last text)
    (SFUNC = pg_temp.next_hash, STYPE = text)
    """,
)
NUMERIC: Final = {"position", "sequence", "before_quantity", "after_quantity", "delta"}
AS_TEXT: Final = {
    "postgresql": """to_char(({at}) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""",
    "sqlite": "{at}",
}
WAREHOUSE_ROWS: Final = (
    "("
    + " UNION ALL ".join(
        f"SELECT {number} AS w, '{warehouse.id}' AS id"
        for number, warehouse in enumerate(WAREHOUSES)
    )
    + ")"
)


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the data.

    `spread` gives two to four levels per SKU instead of two. If `busy` is not 0, it is the number
    of adjustments of each of the two levels of the last SKU.
    """

    skus: int
    adjustments_per_level: int = 1
    spread: bool = False
    busy: int = 0

    @property
    def levels(self) -> int:
        """The number of stock levels."""
        return sum(levels_of(self, number) for number in range(self.skus))

    @property
    def adjustments(self) -> int:
        """The number of ledger entries."""
        if not self.busy:
            return self.levels * self.adjustments_per_level
        return (self.levels - 2) * self.adjustments_per_level + 2 * self.busy


def code(number: int) -> str:
    """Return the code of a SKU."""
    return f"SKU-{10_000_000 + number}"


def levels_of(size: Size, number: int) -> int:
    """Return the number of levels of a SKU, which are in the first warehouses."""
    return 2 + number % 3 if size.spread and not is_busy(size, number) else 2


def is_busy(size: Size, number: int) -> bool:
    """Whether the SKU is the one with the long history."""
    return bool(size.busy) and number == size.skus - 1


async def fill(database: Database, size: Size, *, tenant_id: str = TENANT) -> AsyncIterator[int]:
    """Create and fill a tenant; yield the number of its SKUs after each batch."""
    dialect = database.dialect

    async def start(session: DriverSession) -> None:
        await insert_tenant(session, tenant_id, name="Benchmark")
        token = f"{tenant_id}-write"
        await insert_token(
            session, tenant_id, token=token, name="bench", email=EMAIL, scopes=[Scope.WRITE]
        )
        row = {"tenant_id": tenant_id, "id": AUTHOR, "email": EMAIL, "salt": SALT}
        await session.insert(person, [row])
        await load_warehouses(session, tenant_id, WAREHOUSES)

    await database.transaction(start)
    for first in range(0, size.skus, STEP):
        end = min(first + STEP, size.skus)
        parameters = {"tenant": tenant_id, "first": first, "end": end}

        async def batch(
            connection: AsyncConnection, parameters: dict[str, object] = parameters
        ) -> None:
            await _prepare(connection)
            for statement in statements(dialect, size):
                await connection.execute(text(statement), parameters)

        await transact(database, batch)
        yield end

    async def finish(connection: AsyncConnection) -> None:
        if dialect == "postgresql":
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
        for statement in COUNTS:
            await connection.execute(text(statement), {"tenant": tenant_id})
        await connection.execute(text("ANALYZE"))

    await transact(database, finish)
    if dialect == "postgresql":
        async with writer_of(database).connect() as connection:
            options = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await options.execute(text("SET statement_timeout = 0"))
            await options.execute(text("VACUUM ANALYZE"))
            await options.execute(text("CHECKPOINT"))


async def _prepare(connection: AsyncConnection) -> None:
    """Create the function that chains hashes, in a transaction without a time limit."""
    if connection.dialect.name == "postgresql":
        # A statement of millions of rows exceeds the time limit of the service.
        for statement in ("SET LOCAL statement_timeout = 0", *CHAINED):
            await connection.execute(text(statement))
    else:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.create_function("chained", 2, _Chain().next)


def statements(dialect: str, size: Size) -> list[str]:
    """Return the statements that insert the SKUs `:first` to `:end`, exclusive, of `:tenant`."""
    usual, is_last = size.adjustments_per_level, f"i = {size.skus - 1}"
    width = "2 + i % 3" if size.spread else "2"
    last = str(usual)
    if size.busy:
        width = f"CASE WHEN {is_last} THEN 2 ELSE {width} END"
        last = f"(CASE WHEN {is_last} THEN {size.busy} ELSE {usual} END)"
    on_hand = AFTER.format(n=last)
    reserved, safety = "(i + w) % 3", "5"
    # The number of an adjustment in the whole ledger, from 0, which is also its time in seconds.
    number = f"i * {4 * usual} + w * {last} + {{n}} - 1"
    at = TIMES[dialect]
    cells = f"numbers JOIN {WAREHOUSE_ROWS} warehouses ON w < {width}"
    hold = "'rsv_01J0000000000' || (1000000000000 + i * 4 + w)"
    sums = {
        name: f"SUM({expression})"
        for name, expression in (("on_hand", on_hand), ("reserved", reserved), ("safety", safety))
    }
    latest = at.format(n=f"MAX({number.format(n=last)})")
    single = STATUS.format(on_hand=f"({on_hand})", reserved=f"({reserved})", safety=safety)
    entry = _entry("n", number, at)
    return [
        f"""
        {NUMBERS}
        INSERT INTO sku (tenant_id, sku, title, status, available, version, created_at, updated_at)
        SELECT {TENANT_SQL}, {CODE}, 'Thing ' || i, {STATUS.format(**sums)},
               {AVAILABLE.format(**sums)},
               1 + COUNT(*) * {last}, {at.format(n=0)}, {latest}
        FROM {cells} GROUP BY i
        """,
        f"""
        {NUMBERS}
        INSERT INTO sku_word (tenant_id, word, sku)
        SELECT {TENANT_SQL}, 'sku', {CODE} FROM numbers
        UNION ALL SELECT {TENANT_SQL}, '' || (10000000 + i), {CODE} FROM numbers
        UNION ALL SELECT {TENANT_SQL}, 'thing', {CODE} FROM numbers
        UNION ALL SELECT {TENANT_SQL}, '' || i, {CODE} FROM numbers
        """,
        f"""
        {NUMBERS}
        INSERT INTO stock_level (tenant_id, sku, warehouse_id, on_hand, reserved, safety_stock,
                                 status, version, adjusted_at, occurred_until, holds)
        SELECT {TENANT_SQL}, {CODE}, warehouses.id, {on_hand}, {reserved}, {safety}, {single},
               {last},
               {at.format(n=f"({number.format(n=last)})")},
               {at.format(n=f"({number.format(n=last)})")},
               CASE WHEN {reserved} > 0 THEN 1 ELSE 0 END
        FROM {cells}
        """,
        f"""
        {NUMBERS}
        INSERT INTO reservation (tenant_id, id, status, created_by, created_at, version)
        SELECT {TENANT_SQL}, {hold}, 'open', '{AUTHOR}', {at.format(n=0)}, 1
        FROM {cells} WHERE {reserved} > 0
        """,
        f"""
        {NUMBERS}
        INSERT INTO reservation_line (tenant_id, reservation_id, sku, warehouse_id, quantity, held,
                                      committed)
        SELECT {TENANT_SQL}, {hold}, {CODE}, warehouses.id, {reserved}, {reserved}, 0
        FROM {cells} WHERE {reserved} > 0
        """,
        f"""
        {NUMBERS}, cells AS (SELECT i, w, warehouses.id AS warehouse_id FROM {cells}),
        entries(i, w, warehouse_id, n) AS (
          SELECT i, w, warehouse_id, 1 FROM cells
          UNION ALL
          SELECT i, w, warehouse_id, n + 1 FROM entries WHERE n < {last}
        ),
        numbered AS (
          SELECT i, w, warehouse_id, n, {LAST_OF_LEDGER.format(column="position", default="0")}
            + ROW_NUMBER() OVER (ORDER BY {number.format(n="n")}) AS position
          FROM entries ORDER BY position
        )
        INSERT INTO adjustment (tenant_id, {", ".join(entry)}, hash)
        SELECT {TENANT_SQL}, {", ".join(entry.values())}, {_hash(dialect, entry)} FROM numbered
        """,
    ]


def _entry(n: str, number: str, at: str) -> dict[str, str]:
    """Return the expressions of the columns of adjustment n of a level."""
    before = f"CASE WHEN {n} = 1 THEN 0 ELSE {AFTER.format(n=f'({n} - 1)')} END"
    after = AFTER.format(n=n)
    return {
        "position": "position",
        "id": f"'adj_01J0000000000' || (1000000000000 + {number.format(n=n)})",
        "sku": CODE,
        "warehouse_id": "warehouse_id",
        "sequence": n,
        "before_quantity": before,
        "after_quantity": after,
        "delta": f"{after} - {before}",
        "reason": f"CASE WHEN {n} = 1 THEN 'initial_stock' ELSE 'cycle_count' END",
        "created_by": f"'{AUTHOR}'",
        "created_at": at.format(n=f"({number.format(n=n)})"),
        "reference": f"CASE WHEN {n} = 1 THEN '{OPENING}' ELSE '{RECOUNT}' END",
    }


def _hash(dialect: str, entry: Mapping[str, str]) -> str:
    """Return the expression of the hash of an entry, in the order of the positions."""
    cells = {
        name: AS_TEXT[dialect].format(at=value) if name == "created_at" else value
        for name, value in entry.items()
    }
    columns = [
        "'null'"
        if name not in cells
        else f"({cells[name]})"
        if name in NUMERIC
        else f"'\"' || ({cells[name]}) || '\"'"
        # The last column, which no entry here has, is left out if it is null.
        for name in HASHED_COLUMNS[:-1]
    ]
    rest = " || ',' || ".join([f"'\"' || {TENANT_SQL} || '\"'", *columns])
    last = LAST_OF_LEDGER.format(column="'\"' || hash || '\"'", default="'null'")
    return HASHED[dialect].format(rest=rest, last=last)


class _Chain:
    """The function `chained` of SQLite, for rows in the order of their positions."""

    def __init__(self) -> None:
        self._hash: str | None = None

    def next(self, rest: str, last: str) -> str:
        """Return the hash of the next row."""
        previous = last if self._hash is None else f'"{self._hash}"'
        self._hash = sha256(f"[{previous},{rest}]".encode()).hexdigest()
        return self._hash


COUNTS: Final = [
    f"""
    INSERT INTO sku_count (tenant_id, warehouse_id, status, skus)
    SELECT tenant_id, '', status, COUNT(*) FROM sku WHERE tenant_id = {TENANT_SQL}
    GROUP BY tenant_id, status
    UNION ALL
    SELECT tenant_id, warehouse_id, status, COUNT(*) FROM stock_level WHERE tenant_id = {TENANT_SQL}
    GROUP BY tenant_id, warehouse_id, status
    """,
    f"""
    INSERT INTO reservation_count (tenant_id, reference, status, reservations)
    SELECT tenant_id, '', status, COUNT(*) FROM reservation WHERE tenant_id = {TENANT_SQL}
    GROUP BY tenant_id, status
    """,
    f"""
    UPDATE warehouse SET reserved = (
      SELECT COALESCE(SUM(stock_level.reserved), 0) FROM stock_level
      WHERE stock_level.tenant_id = {TENANT_SQL} AND stock_level.warehouse_id = warehouse.id
    )
    WHERE tenant_id = {TENANT_SQL}
    """,
]
