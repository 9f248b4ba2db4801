"""Speed of an import relative to a bare COPY of the same rows into the same indexed tables.

    python -m benchmarks.importing --rows 1000000

On PostgreSQL, counts of `--rows` levels are imported from a CSV file by the functions of the
command, into a tenant that has the SKUs. The resulting levels and ledger entries are then copied to
another tenant of the same database by the binary COPY of the driver. Import and COPY are timed in
alternating slices, so that other load of the machine slows both.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
from sqlalchemy import make_url

from app.database.engine import Database
from app.database.migration import migrate
from app.files import imports as importing
from app.files.columns import ExportSubject, FileKind
from app.files.exports import ExportFilter, export
from app.files.reading import ReadOptions, read_file
from app.files.sources import FileFormat
from app.files.staging import Staging
from app.files.warehouse_names import WarehouseNames
from app.ledger.verification import verify_tenant
from app.reads.warehouses import list_warehouses
from app.settings import Settings
from app.writes.tenants import insert_tenant

TENANT: Final = "imported"
TWIN: Final = "copied"
SLICES: Final = 10
TABLES: Final = ("stock_level", "adjustment")


def quiet(_unit: str, _number: int | None) -> None:
    """Show no progress."""


async def load(database: Database, tenant_id: str, path: Path, kind: FileKind) -> float:
    """Import a file and return the time in seconds."""
    start = time.perf_counter()
    staging = Staging()
    async with database.snapshot() as snapshot:
        names = WarehouseNames(tenant_id, await list_warehouses(snapshot, tenant_id))
    with path.open("rb") as source:
        read_file(source, staging, ReadOptions(kind=kind), names, quiet)
    run = importing.run_of(staging, tenant_id, name="", created_by="benchmark")
    await importing.validate(database, staging, run, quiet)
    await importing.write(database, staging, run, quiet)
    staging.close()
    return time.perf_counter() - start


async def copy(url: str, codes: tuple[str, str]) -> float:
    """Copy the rows of a range of SKUs to the other tenant; return the time of COPY in seconds."""
    connection = await asyncpg.connect(url)
    seconds = 0.0
    for table in TABLES:
        rows: list[Any] = await connection.fetch(
            f"SELECT * FROM {table} WHERE tenant_id = $1 AND sku BETWEEN $2 AND $3", TENANT, *codes
        )
        records = [(TWIN, *tuple(row)[1:]) for row in rows]
        names = list(rows[0].keys())
        start = time.perf_counter()
        await connection.copy_records_to_table(table, records=records, columns=names)
        seconds += time.perf_counter() - start
    await connection.close()
    return seconds


async def prepare(database: Database, directory: Path, rows: int) -> None:
    """Create two tenants with a warehouse and one SKU for each row."""
    await migrate(database)
    warehouses, codes = directory / "warehouses.csv", directory / "skus.csv"
    warehouses.write_text("id,name,type\nwh_1,Main,own\n", encoding="utf-8")
    with codes.open("w", encoding="utf-8") as file:
        file.write("sku,title\n")
        file.writelines(f"SKU-{number:08},Thing {number}\n" for number in range(rows))
    for tenant_id in (TENANT, TWIN):

        async def create(session: Any, tenant_id: str = tenant_id) -> None:
            await insert_tenant(session, tenant_id, name=tenant_id)

        await database.transaction(create)
        await load(database, tenant_id, warehouses, FileKind.WAREHOUSES)
        await load(database, tenant_id, codes, FileKind.SKUS)


async def slices(
    database: Database, directory: Path, rows: int
) -> AsyncIterator[tuple[float, float]]:
    """Yield the seconds of each import and of each COPY."""
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    size = rows // SLICES
    for first in range(0, size * SLICES, size):
        path = directory / f"{first}.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("sku,warehouse_id,quantity,note\n")
            file.writelines(
                f"SKU-{number:08},wh_1,{number % 97},\n" for number in range(first, first + size)
            )
        took = await load(database, TENANT, path, FileKind.COUNTS)
        yield took, await copy(url, (f"SKU-{first:08}", f"SKU-{first + size - 1:08}"))


async def measure(url: str, rows: int, directory: Path) -> None:
    """Print the measurements."""
    database = Database(Settings(database_url=url))
    await prepare(database, directory, rows)
    import_seconds = copy_seconds = 0.0
    if make_url(url).get_backend_name() == "postgresql":
        async for took, copied in slices(database, directory, rows):
            import_seconds, copy_seconds = import_seconds + took, copy_seconds + copied
            print(f"import {took:.1f} s, COPY {copied:.1f} s, ratio {copied / took:.2f}")  # noqa: T201
        ratio = copy_seconds / import_seconds
        print(f"{rows:,} rows: {rows / import_seconds:,.0f} a second, {ratio:.2f} x COPY")  # noqa: T201
    else:
        path = directory / "counts.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("sku,warehouse_id,quantity\n")
            file.writelines(f"SKU-{number:08},wh_1,{number % 97}\n" for number in range(rows))
        import_seconds = await load(database, TENANT, path, FileKind.COUNTS)
        print(f"{rows:,} rows: {rows / import_seconds:,.0f} a second")  # noqa: T201
    print(f"peak memory {peak()} MiB")  # noqa: T201
    start = time.perf_counter()
    with (directory / "stock.csv").open("wb") as target:
        options = {"form": FileFormat.CSV, "target": target, "progress": quiet}
        await export(database, TENANT, ExportSubject.STOCK, ExportFilter(), **options)  # type: ignore[arg-type]
    took = time.perf_counter() - start
    print(f"export of stock {took:.1f} s; peak memory {peak()} MiB")  # noqa: T201
    await verify_tenant(database, TENANT)
    await database.dispose()


def peak() -> int:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Run on the empty database of DATABASE_URL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Settings().database_url, arguments.rows, Path(directory)))


if __name__ == "__main__":
    main()
