"""The rules of SKU codes: refusals name the character and its place, and every look-up uses NFC."""

import unicodedata
from typing import Any, Final

import pytest
from strawberry.types import get_object_definition
from strawberry.utils.str_converters import to_camel_case

from app.domain.validation import normalized_code, sku_problem
from app.files.columns import FileKind
from app.graphql.schema.schema import schema
from tests.files.importing import imported, staged
from tests.rest.answers import Json, answered, refused_fields
from tests.service import Service, level, sku, warehouse

PATH: Final = "/api/inventory"
CODE: Final = "Größe é\uac00"
OTHER_FORM: Final = unicodedata.normalize("NFD", CODE)
CREATE: Final = "mutation ($i: CreateSkuInput!) { createSku(input: $i) { sku { sku } } }"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("", "must have 1 to 255 characters, and has 0"),
        ("é" * 256, "must have 1 to 255 characters, and has 256"),
        ("A\tB", "U+0009, a control character, which is its character 2"),
        ("AB\x7f", "U+007F, a control character, which is its character 3"),
        ("A\u00adB", "U+00AD SOFT HYPHEN, an invisible format character"),
        ("N-9\u200b", "U+200B ZERO WIDTH SPACE, an invisible format character"),
        ("\u202eA", "which is its character 1"),
        ("A\ue000", "U+E000, a private-use character"),
        ("A\u0378", "U+0378, an unassigned character"),
        ("A\u2028B", "U+2028 LINE SEPARATOR, a line separator"),
        ("A\u00a0B", "U+00A0 NO-BREAK SPACE, a space other than U+0020"),
        (" A", "must not start or end with a space, which is its character 1"),
        ("A ", "must not start or end with a space, which is its character 2"),
        ("AB  C", "must not contain two spaces in a row, which are its characters 3-4"),
        (".", "must not be '.'"),
        ("..", "must not be '..'"),
        ("reservations", "must not be 'reservations'"),
    ],
)
def test_a_refusal_names_the_character_and_its_place(code: str, problem: str) -> None:
    assert problem in str(sku_problem(code))


@pytest.mark.parametrize(
    "code",
    [
        *("A&B", "A,B", "A(1)", "100%", 'A"B', "A#1", "A'B", "A\\B", "-A", "_A", "A*", "=A", "📦"),
        *(
            "A\u2011B",
            "A\u2013B",
            "\u2160",
            "٩",
            "\u0301",
            "a\u0338",
            "x" * 255,
            "...",
            "Bulk",
            "❤\ufe0f",
        ),
    ],
)
async def test_codes_of_other_systems_are_taken(service: Service, code: str) -> None:
    data = await service.data(CREATE, {"i": {"sku": code, "title": "T"}}, token="admin")
    assert data["createSku"]["sku"]["sku"] == code


def test_normalization_of_a_long_text_is_fast_enough_to_be_done_for_each_row() -> None:
    marks = "\u0301\u0327" * 127
    assert normalized_code(marks) == unicodedata.normalize("NFC", marks)
    assert normalized_code(OTHER_FORM) == CODE
    # No code has so many characters in any form: it is not normalized.
    assert normalized_code("e\u0301" * 511) == "e\u0301" * 511


async def test_a_new_code_is_stored_in_nfc(service: Service) -> None:
    data = await service.data(CREATE, {"i": {"sku": OTHER_FORM, "title": "T"}}, token="admin")
    assert data["createSku"]["sku"]["sku"] == CODE
    answer = await service.graphql(CREATE, {"i": {"sku": CODE, "title": "T"}}, token="admin")
    assert answer["errors"][0]["extensions"]["code"] == "SKU_EXISTS"


async def test_rest_finds_a_code_in_another_form(service: Service) -> None:
    main, north = warehouse(), warehouse("North")
    await service.load([main, north], [sku(CODE, level(main, 5))])
    item = {"sku": OTHER_FORM, "warehouse_id": main.id, "quantity": 1}

    async def send(path: str, body: Json) -> Any:
        response = await service.rest("POST", f"{PATH}{path}", json=body)
        assert response.is_success, response.text
        return response.json()["data"]

    listed = await service.rest("GET", PATH, params={"sku": OTHER_FORM})
    assert [each["sku"] for each in answered(listed)["data"]] == [CODE]
    [result] = await send("/bulk", {"updates": [{**item, "reason": "x"}]})
    assert (result["sku"], result["status"]) == (CODE, "updated")
    repeated = [{**item, "reason": "x"}, {**item, "sku": CODE, "reason": "x"}]
    response = await service.rest("POST", f"{PATH}/bulk", json={"updates": repeated})
    assert refused_fields(response) == ["updates.1"]
    moved = {"from_warehouse_id": main.id, "to_warehouse_id": north.id}
    lines = [{"sku": OTHER_FORM, "quantity": 1}]
    assert (await send("/transfers", {**moved, "lines": lines}))["lines"][0]["incoming"]
    item["warehouse_id"] = north.id
    held = await send("/reservations", {"lines": [item]})
    assert held["lines"][0]["sku"] == CODE
    committed = await send(f"/reservations/{held['id']}/commit", {"lines": [item]})
    assert committed["lines"][0]["committed"] == 1


async def test_graphql_finds_a_code_in_another_form(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku(CODE, level(main, 5))])
    document = """
    query ($code: String!, $sku: ID!, $level: ID!, $warehouse: ID!) {
      sku(sku: $code) { sku }
      skusByCode(codes: [$code]) { sku }
      node(id: $sku) { id }
      nodes(ids: [$sku, $level]) { id }
      level: node(id: $level) { id }
      skus(filter: {sku: $code, codePrefix: $code}) { totalCount }
      warehouse(id: $warehouse) { stock(filter: {sku: $code, codePrefix: $code}) { totalCount } }
      adjustments(filter: {sku: $code}) { totalCount }
      warehouses { adjustments(filter: {sku: $code}) { totalCount } }
    }
    """
    ids = {"sku": f"sku_{OTHER_FORM}", "level": f"level_{main.id}_{OTHER_FORM}"}
    data = await service.data(document, {"code": OTHER_FORM, "warehouse": main.id, **ids})

    assert data["sku"] == {"sku": CODE}
    assert data["skusByCode"] == [{"sku": CODE}]
    assert data["node"] == {"id": f"sku_{CODE}"}
    assert data["level"] == {"id": f"level_{main.id}_{CODE}"}
    assert data["nodes"] == [data["node"], data["level"]]
    assert data["warehouse"] == {"stock": {"totalCount": 1}}
    assert data["skus"] == data["adjustments"] == {"totalCount": 1}
    assert data["warehouses"] == [{"adjustments": {"totalCount": 1}}]


def test_every_input_with_a_code_normalizes_it() -> None:
    definitions = [
        get_object_definition(getattr(concrete.definition, "origin", None))
        for concrete in schema.schema_converter.type_map.values()
    ]
    inputs = [
        definition
        for definition in definitions
        if definition
        and definition.is_input
        and any(field.python_name == "sku" for field in definition.fields)
    ]
    assert len(inputs) > 10
    for definition in inputs:
        values: Json = {to_camel_case(field.python_name): None for field in definition.fields}
        if "change" in values:
            values["change"] = {"quantity": 1}
        make: Any = definition.from_input
        assert make is not None, definition.name
        assert make(definition.origin, {**values, "sku": OTHER_FORM}, None).sku == CODE


async def test_a_file_may_have_another_form(service: Service) -> None:
    content = f"sku,title\n{OTHER_FORM},Thing\n"
    tally = await imported(service.database, service.tenant_id, content, FileKind.SKUS)
    assert tally.created == 1
    assert (await service.data(f'{{ sku(sku: "{CODE}") {{ sku }} }}'))["sku"] == {"sku": CODE}
    tally = await imported(service.database, service.tenant_id, content, FileKind.SKUS)
    assert tally.unchanged == 1
    staging = staged(f"{content}{CODE},Other\n", FileKind.SKUS)
    assert [problem.line for problem in staging.problems()] == [2, 3]
    staging.close()
