"""Exports: one snapshot, safe for spreadsheets, atomic, and importable."""

import csv
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.cli.exports import open_target
from app.files import exports as exporting
from app.files.columns import ExportSubject, FileKind
from app.files.exports import ExportFilter, export
from app.files.import_runs import ImportTally
from app.files.seeding import LoadedLevel
from app.files.sources import FileFormat
from tests.files.importing import imported, silent
from tests.ledger.writes import SET, assert_proven
from tests.processes import run
from tests.service import Service, counted, level, new_tenant, sku, warehouse

MAIN = warehouse("Main")
OTHER = warehouse("Other")
RETURNS = warehouse("Returns", is_sellable=False)
WAREHOUSES = [MAIN, OTHER, RETURNS]
# The columns that an import of levels keeps.
EXPORTED = [
    "sku",
    "warehouse_id",
    "on_hand",
    "available",
    "safety_stock",
    "reorder_point",
    "status",
]
EVERYTHING = ExportFilter()
DANGEROUS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''-x", "'fine", 'a"b,c\nd', "é"]


async def exported(
    service: Service, subject: ExportSubject, form: FileFormat, where: ExportFilter = EVERYTHING
) -> str:
    target = io.BytesIO()
    await export(
        service.database,
        service.tenant_id,
        subject,
        where,
        form=form,
        target=target,
        progress=silent,
    )
    return target.getvalue().decode("utf-8-sig")


async def test_formula_like_text_is_escaped_and_imported_unchanged(
    service: Service,
) -> None:
    titled = [sku(f"S{index}", level(MAIN, 1), title=it) for index, it in enumerate(DANGEROUS)]
    await service.load([MAIN], titled)

    table = await exported(service, ExportSubject.STOCK, FileFormat.CSV)
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert all(row["title"][0] not in "=+-@\t\r" for row in rows)
    titles = io.StringIO(newline="")
    writer = csv.DictWriter(titles, ["sku", "title"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    again = await imported(service.database, service.tenant_id, titles.getvalue(), FileKind.SKUS)
    assert again == ImportTally(unchanged=len(DANGEROUS))


@pytest.mark.parametrize("form", FileFormat)
async def test_exported_stock_is_imported_unchanged(service: Service, form: FileFormat) -> None:
    stocked = [
        sku("A", level(MAIN, 5, safety_stock=3), level(OTHER, 0), title="=A"),
        sku("B", level(OTHER, 7, reorder_point=8), level(RETURNS, 2, safety_stock=1)),
    ]
    await service.load(WAREHOUSES, stocked)
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    await other.load(WAREHOUSES, [sku("A", title="=A"), sku("B")])

    content = await exported(service, ExportSubject.STOCK, form)
    same = await imported(service.database, service.tenant_id, content, FileKind.LEVELS, form)
    assert same == ImportTally(unchanged=4)
    made = await imported(service.database, other.tenant_id, content, FileKind.LEVELS, form)
    assert made == ImportTally(created=4)
    figures = [
        [
            {name: row[name] for name in EXPORTED}
            for row in map(
                json.loads, (await exported(it, ExportSubject.STOCK, FileFormat.JSONL)).splitlines()
            )
        ]
        for it in (service, other)
    ]
    assert figures[0] == figures[1]
    by_level = {(each["sku"], each["warehouse_id"]): each for each in figures[0]}
    shown = ("on_hand", "available", "reorder_point", "status")
    assert [by_level["B", OTHER.id][name] for name in shown] == [7, 7, 8, "low"]
    # Its stock is not for sale.
    assert [by_level["B", RETURNS.id][name] for name in shown] == [2, 0, None, "out_of_stock"]
    await assert_proven(other)


@pytest.mark.parametrize("form", FileFormat)
async def test_exported_warehouses_are_imported_unchanged(
    service: Service, form: FileFormat
) -> None:
    closed = warehouse("Closed", is_active=False)
    await service.load([*WAREHOUSES, closed])
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    content = await exported(service, ExportSubject.WAREHOUSES, form)
    same = await imported(service.database, service.tenant_id, content, FileKind.WAREHOUSES, form)
    assert same == ImportTally(unchanged=4)
    await imported(service.database, other.tenant_id, content, FileKind.WAREHOUSES, form)
    read = "{ warehouses { id name isActive isSellable } }"
    assert await other.data(read) == await service.data(read)
    assert await exported(other, ExportSubject.WAREHOUSES, form) == content


async def test_ledger_export_filters_by_time_and_warehouse(service: Service) -> None:
    history = [counted(number, f"2026-01-0{number}T00:00:00Z") for number in (1, 2, 3)]
    main = LoadedLevel(warehouse_id=MAIN.id, history=history)
    await service.load([MAIN, OTHER], [sku("A", main, level(OTHER, 9))])

    whole = (await exported(service, ExportSubject.LEDGER, FileFormat.JSONL)).splitlines()
    assert [json.loads(line)["after_quantity"] for line in whole] in ([1, 9, 2, 3], [9, 1, 2, 3])
    part = await exported(
        service,
        ExportSubject.LEDGER,
        FileFormat.JSONL,
        ExportFilter(
            warehouse_id=MAIN.id,
            since=datetime(2026, 1, 2, tzinfo=UTC),
            until=datetime(2026, 1, 3, tzinfo=UTC),
        ),
    )
    [entry] = map(json.loads, part.splitlines())
    assert (entry["after_quantity"], entry["created_at"]) == (2, "2026-01-02T00:00:00.000Z")
    assert "tenant_id" not in entry


async def test_an_export_is_one_snapshot_of_one_tenant(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [f"S{number:02}" for number in range(20)]
    await service.load([MAIN], [sku(code, level(MAIN, 1)) for code in codes])
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    await other.load([MAIN], [sku("FOREIGN", level(MAIN, 1))])
    monkeypatch.setattr(exporting, "EXPORT_BATCH_ROWS", 2)
    last = {"sku": codes[-1], "warehouseId": MAIN.id, "quantity": 99, "reason": "correction"}

    batches = exporting.exported_rows(
        service.database, exporting._stock(ExportFilter(), ""), service.tenant_id
    )
    rows = [*await anext(batches)]
    await service.data(SET, {"input": last})
    async for batch in batches:
        assert len(batch) == 2
        rows += batch
    assert [(row[0], row[3]) for row in rows] == [(code, 1) for code in codes]


def test_failed_export_leaves_the_previous_file(tmp_path: Path) -> None:
    target = tmp_path / "stock.csv"
    target.write_text("before", encoding="utf-8")

    def fail() -> None:
        with open_target(str(target)) as file:
            file.write(b"half")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["stock.csv"]
    assert target.read_text(encoding="utf-8") == "before"
    with open_target(str(target)) as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["stock.csv"]
    assert target.read_text(encoding="utf-8") == "whole"


def test_export_command_exits_silently_on_a_closed_pipe(
    empty_database_url: str, tmp_path: Path
) -> None:
    url = empty_database_url
    run("migrate", database_url=url)
    run("tenant", "create", "acme", database_url=url)
    words = ("export", "stock", "--tenant", "acme")
    done = run(*words, "-o", str(tmp_path / "stock.csv"), database_url=url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    header = (tmp_path / "stock.csv").read_bytes()
    assert header.startswith(b"\xef\xbb\xbfsku,title,warehouse_id,on_hand,")
    assert header.decode().strip() == run(*words, database_url=url).stdout.strip()
    plain = run(*words, "--no-bom", database_url=url).stdout
    assert plain.startswith("sku,title,")
    assert run(*words, "--since", "2026-01-01", database_url=url).returncode != 0

    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "app", *words],
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
