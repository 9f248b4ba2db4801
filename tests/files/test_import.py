"""Imports: validated first, written in batches, and never written twice."""

import asyncio
import json
import multiprocessing
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select

from app.database.tables import adjustment, sku_count, stock_level
from app.database.tables import sku as sku_table
from app.domain.warehouses import WarehouseType
from app.files import imports as importing
from app.files.columns import FileKind
from app.files.import_runs import ImportTally
from app.files.imports import FileRefused
from app.files.problems import RowProblem
from app.files.sources import MAX_LINE_LENGTH, FileFormat
from app.ledger.verification import verify_tenant
from tests.files.importing import BATCH, die_importing, imported, staged, warehouse_names
from tests.graphql.operations import bulk_item
from tests.ledger.writes import ADJUST, BULK, assert_proven
from tests.processes import run
from tests.service import Service, level, sku, warehouse

MAIN: Final = warehouse("Main")
FBA: Final = warehouse("Amazon", WarehouseType.FBA)
CLOSED: Final = warehouse("Closed", is_active=False)
COUNTS: Final = "sku,warehouse_id,quantity\n"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split small files into several batches."""
    monkeypatch.setattr(importing, "IMPORT_BATCH_ROWS", BATCH)


def reasons(
    content: str | bytes, kind: FileKind, form: FileFormat | None = None
) -> list[tuple[int, str]]:
    staging = staged(content, kind, form)
    result = [(each.line, described(each)) for each in staging.problems()]
    staging.close()
    return result


def described(problem: RowProblem) -> str:
    return f"{problem.column} {problem.reason}. {problem.remedy}"


async def refused(service: Service, content: str, kind: FileKind) -> list[tuple[int, str]]:
    names = await warehouse_names(service.database, service.tenant_id)
    staging = staged(content, kind, names=names)
    import_run = importing.run_of(staging, service.tenant_id, name="", created_by="importer")
    with pytest.raises(FileRefused):
        await importing.validate(service.database, staging, import_run, lambda _what, _number: None)
    result = [(each.line, f"{each.value} {described(each)}") for each in staging.problems()]
    staging.close()
    return result


async def rows(service: Service, statement: Any) -> list[tuple[Any, ...]]:
    async with service.database.snapshot() as snapshot:
        result = await snapshot.rows(statement.where(TENANT_OF[statement] == service.tenant_id), {})
    return sorted(tuple(row) for row in result)


LEVELS = select(
    *(stock_level.c.sku, stock_level.c.warehouse_id, stock_level.c.on_hand),
    *(stock_level.c.safety_stock, stock_level.c.status, stock_level.c.version),
)
ENTRIES = select(
    *(adjustment.c.sku, adjustment.c.warehouse_id, adjustment.c.sequence),
    *(adjustment.c.before_quantity, adjustment.c.after_quantity, adjustment.c.reason),
    adjustment.c.note,
)
STATUSES = select(sku_table.c.sku, sku_table.c.status, sku_table.c.version)
NUMBERS = select(sku_count.c.warehouse_id, sku_count.c.status, sku_count.c.skus)
TENANT_OF = {
    LEVELS: stock_level.c.tenant_id,
    ENTRIES: adjustment.c.tenant_id,
    STATUSES: sku_table.c.tenant_id,
    NUMBERS: sku_count.c.tenant_id,
}


async def test_imported_catalogue_passes_verification(service: Service) -> None:
    database, tenant = service.database, service.tenant_id
    warehouses = (
        'name,type,id,is_active\n"Main, first",own,wh_1,\nAmazon,FBA,wh_2,true\nBy name,3PL,,\n'
    )
    codes = "".join(f"S{number},Thing {number}\n" for number in range(10))
    levels = '{"sku":"S1","warehouse_id":"wh_1","on_hand":7,"safety_stock":7}\n\n'
    levels += '{"sku":"S2","warehouse_id":"wh_2","on_hand":9}\r\n'
    counts = f'{COUNTS[:-1]},note\r\nS1,wh_1,5,"of ""two""\nlines"\r\nS3,wh_1,0,\r\n'

    assert await imported(database, tenant, warehouses, FileKind.WAREHOUSES) == ImportTally(
        created=3
    )
    assert await imported(database, tenant, warehouses, FileKind.WAREHOUSES) == ImportTally(
        unchanged=3
    )
    assert await imported(database, tenant, "sku,title\n" + codes, FileKind.SKUS) == ImportTally(
        created=10
    )
    renamed = "sku,title\n" + codes.replace("Thing 3", "Other")
    changed = ImportTally(updated=1, unchanged=9)
    assert await imported(database, tenant, renamed, FileKind.SKUS) == changed
    done = await imported(database, tenant, levels, FileKind.LEVELS, FileFormat.JSONL)
    assert done == ImportTally(created=2)
    again = ImportTally(created=1, updated=1)
    assert (
        await imported(database, tenant, b"\xef\xbb\xbf" + counts.encode(), FileKind.COUNTS)
        == again
    )

    assert await rows(service, LEVELS) == [
        ("S1", "wh_1", 5, 7, "critical", 2),
        ("S2", "wh_2", 9, 0, "normal", 1),
        ("S3", "wh_1", 0, 0, "out_of_stock", 1),
    ]
    assert await rows(service, ENTRIES) == [
        ("S1", "wh_1", 1, 0, 7, "initial_stock", None),
        ("S1", "wh_1", 2, 7, 5, "cycle_count", 'of "two"\nlines'),
        ("S2", "wh_2", 1, 0, 9, "initial_stock", None),
        ("S3", "wh_1", 1, 0, 0, "cycle_count", None),
    ]
    assert (await verify_tenant(database, tenant)).skus == 10


async def test_import_writes_the_same_rows_as_a_graphql_bulk(service: Service) -> None:
    twin = Service(service.app, service.client, service.database, await new_tenant(service))
    updates = [("A", 4), ("B", 0), ("C", 9), ("D", 12), ("E", 1)]
    for each in (service, twin):
        stocked = [sku(code, level(MAIN, 3, safety_stock=4)) for code in "ABC"]
        await each.load([MAIN], [*stocked, sku("D"), sku("E")])
    content = COUNTS + "".join(f"{code},{MAIN.id},{number}\n" for code, number in updates)
    await imported(service.database, service.tenant_id, content, FileKind.COUNTS)
    bulk_updates = [
        {"sku": code, "warehouseId": MAIN.id, "quantity": number, "reason": "cycle_count"}
        for code, number in updates
    ]
    items = [bulk_item(update) for update in bulk_updates]
    await twin.data(BULK, {"input": {"updates": items, "onError": "ABORT"}})

    for statement in (LEVELS, ENTRIES, STATUSES, NUMBERS):
        assert await rows(service, statement) == await rows(twin, statement)
    await assert_proven(service)


async def new_tenant(service: Service) -> str:
    from tests.service import new_tenant as create  # noqa: PLC0415 - its name is the better one

    return await create(service.database)


@pytest.mark.parametrize(
    ("kind", "content", "line", "named"),
    [
        (FileKind.COUNTS, COUNTS + "A,w,1e3\n", 2, "quantity is in scientific notation"),
        (FileKind.COUNTS, COUNTS + "A,w,-5\n", 2, "quantity is negative"),
        (FileKind.COUNTS, COUNTS + "A,w,\u0665\n", 2, "quantity is not a whole number"),
        (FileKind.COUNTS, COUNTS + "A,w,1000000000001\n", 2, "quantity is more than"),
        (FileKind.COUNTS, COUNTS + "bulk,w,1\n", 2, "sku must not be 'bulk'"),
        (FileKind.COUNTS, COUNTS + "A\u200bB,w,1\n", 2, "sku must not contain U+200B"),
        (FileKind.COUNTS, COUNTS + ",w,1\n", 2, "sku is required"),
        (FileKind.COUNTS, COUNTS + "A,w\n", 2, "quantity is missing in this row"),
        (FileKind.COUNTS, COUNTS + "A,w,1,2\n", 2, "has 4 cells, and the header has 3"),
        (FileKind.COUNTS, COUNTS + "A,w,1\n\nA,w,2\n", 2, "is for the same SKU and warehouse"),
        (FileKind.COUNTS, COUNTS + "A,w,1\n\nA,w,2\n", 4, "is for the same SKU and warehouse"),
        (FileKind.COUNTS, COUNTS + '"A\n",w,1\nB,w,x\n', 4, "quantity is not a whole number"),
        (FileKind.COUNTS, COUNTS + 'A,w,1\n"B,w,1\n', 3, "opens a quote that is never closed"),
        (FileKind.COUNTS, COUNTS + "A,w,1," + "x" * MAX_LINE_LENGTH, 2, "is longer than"),
        (FileKind.COUNTS, "sku,warehouse_id\n", 1, "lacks the column 'quantity'"),
        (FileKind.COUNTS, "sku,sku,warehouse_id,quantity\n", 1, "names a column twice: 'sku'"),
        (FileKind.COUNTS, "", 1, "is empty"),
        (FileKind.SKUS, "sku,title\nA,a\x00b\n", 2, "must not contain the character NUL"),
        (FileKind.SKUS, "sku,title\nA,\n", 2, "title is required"),
        (FileKind.SKUS, f"sku,title\nA,{'x' * 501}\n", 2, "title must be 1 to 500"),
        (FileKind.SKUS, 'sku,title\nA," "\n', 2, "title is required"),
        (FileKind.WAREHOUSES, f"name,type\n{'x' * 201},own\n", 2, "name must be 1 to 200"),
        (FileKind.WAREHOUSES, "name,type\n  ,own\n", 2, "name is required"),
        (
            FileKind.WAREHOUSES,
            f"name,type,address\nA,own,{'x' * 501}\n",
            2,
            "address must be 1 to 500",
        ),
        (
            FileKind.WAREHOUSES,
            f"name,type,marketplace\nA,FBA,{'x' * 65}\n",
            2,
            "marketplace must be 1 to 64",
        ),
        (FileKind.WAREHOUSES, "name,type\nA,shed\n", 2, "type must be one of own, FBA, FBS, 3PL"),
        (FileKind.WAREHOUSES, "name,type,is_active\nA,own,so\n", 2, "is_active must be true or"),
    ],
)
def test_invalid_row_is_reported_with_line_and_reason(
    kind: FileKind, content: str | bytes, line: int, named: str
) -> None:
    result = reasons(content, kind)

    assert any(where == line and named in reason for where, reason in result), result


@pytest.mark.parametrize(
    ("content", "form", "lines"),
    [
        (COUNTS + 'A,w,x\nB,w,1\nB,w,2\n"C,w,1\nD,w,x\n', FileFormat.CSV, [2, 3, 4, 5]),
        ("{\n\n[]\n{}" + "x" * MAX_LINE_LENGTH + "\n[]\n", FileFormat.JSONL, [1, 3, 4]),
    ],
    ids=["csv", "jsonl"],
)
def test_bad_rows_above_an_unreadable_line_are_reported(
    content: str, form: FileFormat, lines: list[int]
) -> None:
    result = reasons(content, FileKind.COUNTS, form)

    assert [line for line, _ in result] == lines
    assert "nothing below was read" in result[-1][1]


async def test_the_longest_names_are_imported(service: Service) -> None:
    names = {"name": "n" * 200, "address": "a" * 500, "marketplace": "m" * 64}
    warehouses = f"type,{','.join(names)}\nFBA,{','.join(names.values())}\n"
    database, tenant = service.database, service.tenant_id
    await imported(database, tenant, warehouses, FileKind.WAREHOUSES)
    await imported(database, tenant, f"sku,title\nA,{'t' * 500}\n", FileKind.SKUS)

    data = await service.data('{ warehouses { name address marketplace } sku(sku: "A") { title } }')
    assert data == {"warehouses": [names], "sku": {"title": "t" * 500}}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"sku":"A","warehouse_id":"w","quantity":5.5}', "quantity is not a whole number"),
        ('{"sku":"A","warehouse_id":"w","quantity":1e3}', "quantity is in scientific notation"),
        ('{"sku":"A","warehouse_id":"w","quantity":1e-999999999}', "is in scientific notation"),
        ('{"sku":"A","warehouse_id":"w","quantity":true}', "quantity must be a whole number"),
        ('{"sku":"A","warehouse_id":"w","quantity":"5,0"}', "quantity is ambiguous"),
        ('{"sku":"A","warehouse_id":"w","quantity":-0.5}', "quantity is not a whole number"),
        ('{"sku":true,"warehouse_id":"w","quantity":5}', "sku must be text"),
        ('{"sku":"A","warehouse_id":"w","quantity":1,"Quantity":2}', "names a column twice"),
        ('{"sku":"A","warehouse_id":"w","quantity":NaN}', "is not valid JSON"),
        ('{"sku":"A","sku":"B","warehouse_id":"w","quantity":1}', "names twice: 'sku'"),
        ('{"sku":"A","warehouse_id":"w","quantity":1,"note":"\\ud800"}', "surrogates"),
        ('{"sku":"A","warehouse_id":"w","quantity":1,"note":"\\u0000"}', "NUL"),
        ('["A"]', "must be a JSON object"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"sku":"A"', "is not valid JSON"),
        ("1" * 10_000, "is not valid JSON"),
    ],
)
def test_invalid_json_line_is_reported(content: str, named: str) -> None:
    [(line, reason)] = reasons("\n" + content + "\n", FileKind.COUNTS, FileFormat.JSONL)

    assert (line, named in reason) == (2, True), reason


async def test_rows_against_stock_rules_are_reported_and_nothing_is_written(
    service: Service,
) -> None:
    await service.load([MAIN, FBA, CLOSED], [sku("A", level(CLOSED, 5)), sku("B", level(MAIN, 5))])
    other = await new_tenant(service)
    counts = COUNTS + (
        f"B,{MAIN.id},1\nB,{FBA.id},1\nA,{CLOSED.id},6\nX,{MAIN.id},1\nB,wh_none,1\nA,{MAIN.id},1\n"
    )

    result = await refused(service, counts, FileKind.COUNTS)
    assert [line for line, _ in result] == [3, 4, 5, 6]
    for (_, reason), word in zip(result, ["read-only", "inactive", "X", "wh_none"], strict=True):
        assert word in reason
    levels = f"sku,warehouse_id,on_hand\nB,{MAIN.id},6\n"
    [(line, reason)] = await refused(service, levels, FileKind.LEVELS)
    assert (line, "has a history" in reason) == (2, True)
    warehouses = f"id,name,type\n{MAIN.id},Main,FBA\n"
    [(line, reason)] = await refused(service, warehouses, FileKind.WAREHOUSES)
    assert (line, "cannot change" in reason) == (2, True)
    warehouses = "name,type,marketplace\nAmazon,FBA,amazon_eu\nNew,own,amazon_eu\nAny,3PL,ebay\n"
    result = await refused(service, warehouses, FileKind.WAREHOUSES)
    only = "marketplace must be given for FBA and FBS only. "
    assert result == [(3, f"amazon_eu {only}"), (4, f"ebay {only}")]
    content = COUNTS + f"B,{MAIN.id},1\n"
    with pytest.raises(FileRefused):
        await imported(service.database, other, content, FileKind.COUNTS)
    assert len(await rows(service, ENTRIES)) == 2
    await assert_proven(service)


async def test_repeated_counts_are_skipped_despite_later_changes(
    service: Service,
) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 1))])
    content = COUNTS + f"A,{MAIN.id},10\n"
    change = {"sku": "A", "warehouseId": MAIN.id, "delta": -4, "reason": "correction"}

    await imported(service.database, service.tenant_id, content, FileKind.COUNTS)
    await service.data(ADJUST, {"input": change})
    again = await imported(service.database, service.tenant_id, content, FileKind.COUNTS)
    assert again == ImportTally(already_imported=1)
    assert (await rows(service, LEVELS))[0][2] == 6
    named = await imported(
        service.database, service.tenant_id, content, FileKind.COUNTS, name="May"
    )
    assert named == ImportTally(updated=1)
    assert (await rows(service, LEVELS))[0][2] == 10


@pytest.mark.parametrize("kind", [FileKind.COUNTS, FileKind.LEVELS, FileKind.SKUS])
async def test_killed_import_resumes_without_duplicates(service: Service, kind: FileKind) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.files.importing"])
    url = service.database.url.render_as_string(hide_password=False)
    codes = [f"S{number}" for number in range(2 * BATCH + 1)]
    moment, killed = 0, True
    while killed:
        each = Service(service.app, service.client, service.database, await new_tenant(service))
        await each.load([MAIN], [sku(code) for code in codes] if kind is not FileKind.SKUS else [])
        column = "quantity" if kind is FileKind.COUNTS else "on_hand"
        content = f"sku,warehouse_id,{column}\n" + "".join(f"{it},{MAIN.id},5\n" for it in codes)
        if kind is FileKind.SKUS:
            content = "sku,title\n" + "".join(f"{code},Thing\n" for code in codes)
        process = context.Process(
            target=die_importing, args=(moment, url, each.tenant_id, content, kind), daemon=True
        )
        process.start()
        process.join()
        assert process.exitcode in (-9, 0)
        killed = process.exitcode == -9
        tally = await imported(each.database, each.tenant_id, content, kind)

        assert sum(vars(tally).values()) == len(codes)
        assert killed or tally.created == 0
        entries = 0 if kind is FileKind.SKUS else len(codes)
        assert len(await rows(each, ENTRIES)) == entries
        assert (await verify_tenant(each.database, each.tenant_id)).skus == len(codes)
        moment += 5
    assert moment > 10


async def test_concurrent_writes_during_an_import_are_kept(service: Service) -> None:
    other = warehouse("Other")
    codes = [f"S{number}" for number in range(4 * BATCH)]
    await service.load([MAIN, other], [sku(code, level(MAIN, 100)) for code in codes])
    content = COUNTS + "".join(f"{code},{other.id},7\n" for code in codes)

    async def sell(code: str) -> None:
        change = {"sku": code, "warehouseId": MAIN.id, "delta": -1, "reason": "correction"}
        await service.data(ADJUST, {"input": change})

    await asyncio.gather(
        imported(service.database, service.tenant_id, content, FileKind.COUNTS),
        *(sell(code) for code in codes for _ in range(3)),
    )

    held = {(code, each): on_hand for code, each, on_hand, *_ in await rows(service, LEVELS)}
    assert {held[code, MAIN.id] for code in codes} == {97}
    assert {held[code, other.id] for code in codes} == {7}
    await assert_proven(service)


def test_import_command_validates_and_resumes(empty_database_url: str, tmp_path: Path) -> None:
    url = empty_database_url
    run("migrate", database_url=url)
    run("tenant", "create", "acme", database_url=url)
    good, bad, listed = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "errors.jsonl"
    good.write_text("sku,title\nA,Thing\n", encoding="utf-8")
    bad.write_text("sku,title\nbulk,x\nB,Thing\n", encoding="utf-8")
    options = ("--tenant", "acme", "--kind", "skus")

    dry = run("import", str(good), *options, "--dry-run", "--json", database_url=url)
    assert json.loads(dry.stdout)["created"] == 1
    done = run("import", str(good), *options, "--json", database_url=url)
    assert json.loads(done.stdout)["created"] == 1
    done = run("import", str(bad), *options, "--report", str(listed), database_url=url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{bad}, line 2, column 'sku': 'bulk' must not be ")
    assert "\ninventory: Bad rows: 1; nothing was changed. " in done.stderr
    assert json.loads(listed.read_text(encoding="utf-8"))["line"] == 2
    done = run("import", str(tmp_path / "none.csv"), *options, database_url=url)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    [proof] = json.loads(run("verify", "--json", database_url=url).stdout)
    assert proof["skus"] == 1
