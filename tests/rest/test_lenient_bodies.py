"""Bodies as clients send them: none at all, compressed, with null for a field that is optional."""

import gzip
import json
from typing import Final

import pytest

from tests.rest.answers import Json, answered, refusal, refused_fields
from tests.service import Service, level, sku, warehouse

RESERVATIONS: Final = "/api/inventory/reservations"
JSON: Final = {"Content-Type": "application/json"}
MAIN: Final = warehouse()
LINE: Final = {"sku": "A", "warehouse_id": MAIN.id, "quantity": 1}


@pytest.fixture
async def stocked(service: Service) -> Service:
    await service.load([MAIN], [sku("A", level(MAIN, 5))])
    return service


async def reserved(service: Service) -> str:
    body = {"lines": [LINE]}
    made = await service.rest("POST", RESERVATIONS, json=body)
    return str(answered(made, 201)["data"]["id"])


@pytest.mark.parametrize("headers", [{}, JSON, {"Content-Length": "0"}], ids=str)
@pytest.mark.parametrize(("action", "status"), [("commit", "committed"), ("release", "released")])
async def test_a_reservation_ends_by_a_request_without_a_body(
    stocked: Service, action: str, status: str, headers: dict[str, str]
) -> None:
    path = f"{RESERVATIONS}/{await reserved(stocked)}/{action}"
    data = answered(await stocked.rest("POST", path, headers=headers))["data"]
    assert data["status"] == status


async def test_a_body_of_these_routes_is_still_checked(stocked: Service) -> None:
    path = f"{RESERVATIONS}/{await reserved(stocked)}/commit"
    cases: list[tuple[Json, tuple[int, str]]] = [
        ({"content": b" ", "headers": JSON}, (400, "MALFORMED_REQUEST")),
        ({"content": b"{}"}, (415, "UNSUPPORTED_MEDIA_TYPE")),
        ({"json": {"x": 1}}, (422, "VALIDATION_ERROR")),
        ({"content": b"null", "headers": JSON}, (422, "VALIDATION_ERROR")),
    ]
    for options, expected in cases:
        assert refusal(await stocked.rest("POST", path, **options)) == expected


@pytest.mark.parametrize("path", ["/api/inventory/A", "/graphql"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x" * 200])
async def test_a_compressed_body_is_refused_with_the_accepted_encoding(
    service: Service, path: str, encoding: str
) -> None:
    method = "PUT" if path != "/graphql" else "POST"
    response = await service.rest(
        method,
        path,
        content=gzip.compress(b"{}"),
        headers={**JSON, "Content-Encoding": encoding},
    )
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"
    assert encoding[:100] in response.text
    assert len(response.content) < 500


async def test_another_media_type_names_no_encoding(service: Service) -> None:
    response = await service.rest("PUT", "/api/inventory/A", content=b"{}")
    assert response.status_code == 415
    assert "accept-encoding" not in response.headers


async def test_identity_is_accepted(stocked: Service) -> None:
    body = {"warehouse_id": MAIN.id, "quantity": 1, "reason": "x"}
    headers = {"Content-Encoding": "Identity"}
    answered(await stocked.rest("PUT", "/api/inventory/A", json=body, headers=headers))


async def test_null_for_an_optional_field_is_as_if_left_out(stocked: Service) -> None:
    options = dict.fromkeys(("expires_in", "allow_oversell", "reference", "note"))
    held = await stocked.rest("POST", RESERVATIONS, json={"lines": [LINE], **options})
    id_ = answered(held, 201)["data"]["id"]
    body: Json = dict.fromkeys(("lines", "reason", "note"))
    done = answered(await stocked.rest("POST", f"{RESERVATIONS}/{id_}/commit", json=body))["data"]
    assert done["adjustments"][0]["reason"] == "sale"
    body = {"warehouse_id": MAIN.id, "quantity": None, "reason": None}
    response = await stocked.rest("PUT", "/api/inventory/A", json=body)
    assert sorted(refused_fields(response)) == ["quantity", "reason"]


async def test_null_for_a_default_of_graphql_names_the_remedy(stocked: Service) -> None:
    document = (
        "mutation ($dry: Boolean! = false, $input: BulkSetStockInput!) "
        "{ bulkSetStock(input: $input) { total } "
        "b: bulkSetStock(input: {updates: [], dryRun: $dry}) { total } }"
    )
    row = {"sku": None, "warehouseId": MAIN.id, "reason": "x", "change": {"quantity": True}}
    given = {"dry": None, "input": {"updates": [row], "dryRun": None}}
    answer = await stocked.graphql(document, given)

    details = answer["errors"][0]["extensions"]["details"]
    first = "input.updates.0"
    assert {detail["field"]: detail["message"] for detail in details} == {
        "dry": "must not be null; leave it out for its default",
        f"{first}.sku": "is required",
        f"{first}.change.quantity": "must be a whole number, without quotes or decimal point",
        "input.dryRun": "must not be null; leave it out for its default",
    }


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("{ skus(first: null) { totalCount } }", None),
        ("query ($n: Int) { skus(first: $n) { totalCount } }", {"n": None}),
        ("query ($s: SkuStatus) { skus(filter: {status: $s}) { totalCount } }", {"s": [None]}),
        ("query ($s: String) { sku(sku: $s) { sku } }", {"s": {"a": None, "b": True}}),
        ("query ($s: String!) { sku(sku: $s) { sku } }", {"s": [False, "None"]}),
        ("query A { skus { totalCount } } { skus { totalCount } }", None),
    ],
)
async def test_no_message_has_words_of_python(
    service: Service, query: str, variables: Json | None
) -> None:
    answer = await service.graphql(query, variables)
    [error, *_] = answer["errors"]
    for text in (error["message"], json.dumps(error)):
        unquoted = text.replace("'None'", "")
        assert not any(word in unquoted for word in ("None", "True", "False")), text


@pytest.mark.parametrize("query", ["query A { skus { totalCount } }", "{ skus { totalCount } }"])
async def test_an_empty_operation_name_is_as_if_left_out(service: Service, query: str) -> None:
    body = {"query": query, "operationName": ""}
    for response in (
        await service.rest("POST", "/graphql", json=body),
        await service.rest("GET", "/graphql", params=body),
    ):
        assert response.json() == {"data": {"skus": {"totalCount": 0}}}


async def test_a_nameless_operation_is_called_so(service: Service) -> None:
    body = {"query": "{ skus { totalCount } }", "operationName": "B"}
    answer = (await service.rest("POST", "/graphql", json=body)).json()
    assert "one without a name" in answer["errors"][0]["message"]


@pytest.mark.parametrize("parameter", ["start_date", "end_date"])
async def test_an_unencoded_plus_in_a_timestamp_is_explained(
    stocked: Service, parameter: str
) -> None:
    path = "/api/inventory/A/adjustments"
    for text in ("2026-11-30T00:00:00+02:00", "2026-11-30t00:00:00.123456+02:00"):
        response = await stocked.rest("GET", f"{path}?{parameter}={text}")
        assert refused_fields(response) == [parameter]
        assert text.replace("+", "%2B") in response.json()["error"]["message"]
        encoded = text.replace("+", "%2B")
        answered(await stocked.rest("GET", f"{path}?{parameter}={encoded}"))
    response = await stocked.rest("GET", f"{path}?{parameter}=2026-11-30%2000:00:00Z")
    assert "%2B" not in response.text
