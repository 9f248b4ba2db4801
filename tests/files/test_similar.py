"""Codes of a file that differ from those of SKUs as a spreadsheet or a keyboard changes them."""

from typing import Final

from app.files import imports as importing
from app.files.columns import FileKind
from app.files.imports import FileRefused
from app.files.similar_codes import MAX_SHORTENED
from tests.files.importing import silent, staged, warehouse_names
from tests.service import Service, new_tenant, sku, warehouse
from tests.statements import watched

MAIN: Final = warehouse("Main")
EXISTING: Final = ("4260000000017", "42600000000171", "90.750", "JAN-2", "0120", "A-B-C", "Z")
HINTS: Final = {
    "4.26E+12": "Did you mean '4260000000017'?",
    "90.75": "Did you mean '90.750'?",
    "2-Jan": "Did you mean 'JAN-2'?",
    "120": "Did you mean '0120'?",
    "a b c": "Did you mean 'A-B-C'?",
    "z": "Did you mean 'Z'?",
    "9075": "",
    "1E+99": "It looks like a number that a spreadsheet shortened.",
    "3-Feb": "It looks like a date that a spreadsheet made of a code.",
}


async def hints(service: Service, codes: list[str]) -> tuple[dict[str | None, str], int]:
    """Validate counts of unknown codes; the hints by code, and the number of statements."""
    content = "sku,warehouse_id,quantity\n" + "".join(f"{code},{MAIN.id},1\n" for code in codes)
    names = await warehouse_names(service.database, service.tenant_id)
    staging = staged(content, FileKind.COUNTS, names=names)
    run = importing.run_of(staging, service.tenant_id, name="", created_by="importer")
    statements = 0

    def count(_statement: str, _parameters: object) -> None:
        nonlocal statements
        statements += 1

    try:
        with watched(before=count):
            await importing.validate(service.database, staging, run, silent)
    except FileRefused:
        return {each.value: each.hint for each in staging.problems()}, statements
    finally:
        staging.close()
    return {}, statements


async def test_unknown_codes_name_the_code_that_may_be_meant(service: Service) -> None:
    await service.load([MAIN], [sku(code) for code in EXISTING])
    found, statements = await hints(service, [*HINTS])

    assert found == HINTS
    # One finds all codes but the shortened numbers.
    assert statements < len(HINTS)


async def test_codes_of_another_tenant_are_not_named(service: Service) -> None:
    await service.load([MAIN], [sku(code) for code in EXISTING])
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    await other.load([MAIN])
    found, _ = await hints(other, ["z", "4.26E+12", "120"])
    assert not any("Did you mean" in hint for hint in found.values())


async def test_many_shortened_numbers_take_few_statements(service: Service) -> None:
    await service.load([MAIN])
    codes = [f"{number / 1000:.3f}E+12" for number in range(1000, 1000 + 2 * MAX_SHORTENED)]
    found, statements = await hints(service, codes)

    assert len(found) == len(codes)
    assert all(hint.startswith("It looks like a number") for hint in found.values())
    assert MAX_SHORTENED < statements < MAX_SHORTENED + 5
