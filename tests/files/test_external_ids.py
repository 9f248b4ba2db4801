"""Imports of files that name SKUs by ids of another system, and that have such ids."""

from io import BytesIO
from pathlib import Path
from typing import Final

import pytest

from app.domain.stock import OnError
from app.files import external_ids as resolving
from app.files import imports as importing
from app.files.columns import ExportSubject, FileKind
from app.files.exports import ExportFilter, export
from app.files.import_runs import ImportTally
from app.files.imports import FileRefused
from app.files.problems import RowProblem
from app.files.sources import FileFormat
from app.files.staging import Duplicates
from tests.files.commands import TENANT, Commands
from tests.files.importing import imported, silent, staged, warehouse_names
from tests.ledger.test_object_details import EAN, UPDATE_SKU, entries, ids, written
from tests.ledger.writes import assert_proven
from tests.service import Service, level, new_tenant, sku, warehouse

UPC: Final = "036000291452"
MAIN: Final = warehouse("Main")
HEADER: Final = "sku,warehouse_id,quantity\n"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split small files into several batches."""
    monkeypatch.setattr(resolving, "STAGING_BATCH_ROWS", 2)
    monkeypatch.setattr(importing, "IMPORT_BATCH_ROWS", 2)


@pytest.fixture
async def shop(service: Service) -> Service:
    await service.load([MAIN], [sku(code, level(MAIN, 1)) for code in "ABC"])
    await written(service, UPDATE_SKU, sku="A", externalIds=ids(gtin=[EAN, "96385074"]))
    await written(service, UPDATE_SKU, sku="B", externalIds=ids(gtin=[UPC], erp=[EAN]))
    return service


async def imported_by(
    service: Service,
    namespace: str,
    rows: str,
    *,
    duplicates: Duplicates = Duplicates.REFUSE,
    on_error: OnError = OnError.ABORT,
) -> list[RowProblem]:
    """Import counts with external ids. Returns the problems."""
    names = await warehouse_names(service.database, service.tenant_id)
    staging = staged(HEADER + rows, FileKind.COUNTS, names=names, sku_namespace=namespace)
    first = importing.run_of(staging, service.tenant_id, name="", created_by="importer")
    database = service.database
    await resolving.resolve_external_ids(
        database, first, staging, silent, namespace=namespace, duplicates=duplicates
    )
    try:
        chosen = await importing.validate_next_run(
            database, staging, first, silent, on_error=on_error
        )
        await importing.write(database, staging, chosen.run, silent, on_error=on_error)
    except FileRefused:
        pass
    problems = [*staging.problems()]
    staging.close()
    return problems


async def on_hand(service: Service) -> dict[str, int]:
    data = await service.data("{ skus { nodes { sku totalOnHand } } }")
    return {node["sku"]: node["totalOnHand"] for node in data["skus"]["nodes"]}


async def test_counts_are_imported_by_external_ids(shop: Service) -> None:
    rows = f"{EAN},{MAIN.id},5\n0{UPC},{MAIN.id},7\n"
    assert await imported_by(shop, "gtin", rows) == []
    assert await on_hand(shop) == {"A": 5, "B": 7, "C": 1}
    assert await imported_by(shop, "erp", f"{EAN},{MAIN.id},9\n") == []
    assert await on_hand(shop) == {"A": 5, "B": 9, "C": 1}
    await assert_proven(shop)


async def test_unknown_and_malformed_ids_are_problems_of_their_rows(shop: Service) -> None:
    rows = f"{EAN},{MAIN.id},5\n4012345678901,{MAIN.id},6\n123,{MAIN.id},7\nA,{MAIN.id},8\n"
    problems = await imported_by(shop, "gtin", rows)
    assert [(each.line, each.column, each.value, each.reason) for each in problems] == [
        (3, "sku", "4012345678901", "is not the gtin of a SKU"),
        (4, "sku", "123", "must be a GTIN: 8, 12, 13 or 14 digits"),
        (5, "sku", "A", "must be a GTIN: 8, 12, 13 or 14 digits"),
    ]
    assert await on_hand(shop) == {"A": 1, "B": 1, "C": 1}
    await imported_by(shop, "gtin", rows, on_error=OnError.CONTINUE)
    assert await on_hand(shop) == {"A": 5, "B": 1, "C": 1}


async def test_two_ids_of_a_sku_are_duplicates(shop: Service) -> None:
    rows = f"{EAN},{MAIN.id},5\n{UPC},{MAIN.id},1\n96385074,{MAIN.id},6\n"
    problems = await imported_by(shop, "gtin", rows)
    assert [(each.line, each.reason) for each in problems] == [
        (line, "is for the same SKU and warehouse as another row") for line in (2, 4)
    ]
    assert await imported_by(shop, "gtin", rows, duplicates=Duplicates.SUM) == []
    assert (await on_hand(shop))["A"] == 11


async def test_ids_of_another_tenant_are_unknown(shop: Service) -> None:
    stranger = Service(shop.app, shop.client, shop.database, await new_tenant(shop.database))
    other = warehouse("Other")
    await stranger.load([other], [sku("A", level(other, 1))])
    [problem] = await imported_by(stranger, "gtin", f"{EAN},{other.id},5\n")
    assert problem.reason == "is not the gtin of a SKU"


def test_the_option_needs_a_namespace_and_existing_skus(
    own_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    commands = Commands(own_database_url, monkeypatch, capfd)
    commands.load_catalogue(tmp_path)
    path = tmp_path / "counts.csv"
    path.write_text(f"{HEADER}{EAN},wh_main,5\n", encoding="utf-8")
    for options, message in (
        (("--sku-id", "GTIN"), "--sku-id must be 1 to 64"),
        (("--sku-id", "gtin", "--create-skus"), "--sku-id needs a file of stock"),
        (("--sku-id", "gtin", "--kind", "skus"), "--sku-id needs a file of stock"),
        (("--sku-id", "gtin"), "is not the gtin of a SKU"),
    ):
        outcome = commands.import_file(path, *options)
        assert (outcome.status != 0, message in outcome.stderr) == (True, True), outcome
    assert TENANT in commands.run("tenant", "list").stdout


async def exported_skus(service: Service, form: FileFormat) -> str:
    target = BytesIO()
    await export(
        service.database,
        service.tenant_id,
        ExportSubject.SKUS,
        ExportFilter(),
        form=form,
        target=target,
        progress=silent,
        bom=False,
    )
    return target.getvalue().decode()


@pytest.mark.parametrize("form", FileFormat)
async def test_exported_details_are_imported_again(shop: Service, form: FileFormat) -> None:
    await written(shop, UPDATE_SKU, sku="C", metadata=entries(color='"blue", or so', size="L"))
    text = await exported_skus(shop, form)
    again = await imported(shop.database, shop.tenant_id, text, FileKind.SKUS, form)
    assert again == ImportTally(unchanged=3)

    copy = Service(shop.app, shop.client, shop.database, await new_tenant(shop.database))
    made = await imported(copy.database, copy.tenant_id, text, FileKind.SKUS, form)
    assert made == ImportTally(created=3)
    query = "{ skus { nodes { sku externalIds { namespace value } metadata { key value } } } }"
    assert await copy.data(query) == await shop.data(query)
    assert await exported_skus(copy, form) == text
    await assert_proven(copy)


async def refused_skus(service: Service, rows: str) -> list[tuple[int, str, str]]:
    names = await warehouse_names(service.database, service.tenant_id)
    staging = staged(f"sku;title;external_ids;metadata\n{rows}", FileKind.SKUS, names=names)
    run = importing.run_of(staging, service.tenant_id, name="", created_by="importer")
    with pytest.raises(FileRefused):
        await importing.validate(service.database, staging, run, silent)
    problems = [(each.line, each.column, each.reason) for each in staging.problems()]
    staging.close()
    return problems


async def test_malformed_details_are_problems_of_their_rows(shop: Service) -> None:
    for cells, column, reason in (
        ("[];", "external_ids", "must be a JSON object of lists"),
        ('{"erp": "1"};', "external_ids", "must be a JSON object of lists"),
        ('{"ERP": []};', "external_ids", "has the namespace 'ERP'"),
        ('{"gtin": ["4006381333932"]};', "external_ids", "has the value '4006381333932'"),
        (f'{{"gtin": ["{UPC}"]}};', "external_ids", "is refused: The external id"),
        (";[1]", "metadata", "must be a JSON object of texts"),
        (';{"a b": "1"}', "metadata", "has an entry that must be 1 to 64"),
        (";" + "[" * 100_000, "metadata", "must be a JSON object of texts"),
    ):
        quoted = [cell.replace('"', '""') for cell in cells.split(";", 1)]
        row = ";".join(["A", "Thing", *(f'"{cell}"' if cell else "" for cell in quoted)])
        [problem] = await refused_skus(shop, f"{row}\n")
        assert problem[:2] == (2, column)
        assert problem[2].startswith(reason)


async def test_two_rows_of_a_file_cannot_take_one_id(shop: Service) -> None:
    rows = "".join(f'{code};Thing;"{{""shop"": [""1""]}}";\n' for code in "AB")
    [problem] = await refused_skus(shop, rows)
    assert problem[:2] == (3, "external_ids")
    assert (
        problem[2]
        == "is refused: The external id 'shop:1' belongs to SKU 'A'. Remove it there first"
    )
