"""Credentials, scopes, methods, the error shape and the headers of every response."""

import re
from typing import Any, Final

import pytest

from tests.rest.answers import answered, refusal
from tests.service import Service, level, sku, warehouse

UPDATE: Final = {"warehouse_id": "wh_1", "quantity": 1, "reason": "cycle_count"}
ROUTES: Final[list[tuple[str, str, dict[str, Any]]]] = [
    ("GET", "/api/inventory", {}),
    ("GET", "/api/inventory/warehouses", {}),
    ("GET", "/api/inventory/A", {}),
    ("GET", "/api/inventory/A/adjustments", {}),
    ("PUT", "/api/inventory/A", {"json": UPDATE}),
    ("POST", "/api/inventory/bulk", {"json": {"updates": [{"sku": "A", **UPDATE}]}}),
]
READS: Final = ROUTES[:4]
WRITES: Final = ROUTES[4:]
UNAUTHENTICATED: Final = (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(("method", "path", "options"), ROUTES)
async def test_every_route_needs_a_credential(
    service: Service, method: str, path: str, options: dict[str, Any]
) -> None:
    for token in (None, "unknown", f"inv_{service.tenant_id}-secret"):
        response = await service.rest(method, path, token=token, **options)
        assert refusal(response) == UNAUTHENTICATED
        assert response.headers["www-authenticate"] == "Bearer"


NO_CREDENTIALS: Final = [
    "",
    " ",
    "Bearer",
    "Bearer ",
    "Bearer  ",
    "Basic {}",
    "Token {}",
    "{}",
    "Bearer{}",
    "Bearer\t{}",
    "Bearer {} {}",
    "Bearer {},",
    'Bearer "{}"',
    "Bearer {}x",
    "Bearer X{}",
    "Bearer inv_",
    "Bearer inv_-",
    "Bearer -",
    "Bearer ä",
    "Bearer inv_ä-{}",
    "Bearer inv_\x00-a",
    "Bearer inv_%00-a",
    "Bearer " + "a-" * 5_000,
    "Bearer ' OR 1=1 --",
]


async def test_invalid_credential_is_rejected(service: Service) -> None:
    token = service.token("admin")

    for authorization in NO_CREDENTIALS:
        headers = {b"Authorization": authorization.replace("{}", token).encode("latin-1")}
        response = await service.client.get("/api/inventory", headers=headers)
        assert (authorization, *refusal(response)) == (authorization, *UNAUTHENTICATED)
        assert response.headers["www-authenticate"] == "Bearer"
        assert token not in response.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_authorization_scheme_is_case_insensitive(service: Service, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {service.token('read')}"}
    answered(await service.client.get("/api/inventory", headers=headers))


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
async def test_every_scope_reads(service: Service, scope: str) -> None:
    await service.load([], [sku("A")])

    for method, path, _ in READS:
        answered(await service.rest(method, path, token=scope))


async def test_read_scope_does_not_permit_writes(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    update = {**UPDATE, "warehouse_id": main.id}
    reader = "read"

    for method, path, body in [
        ("PUT", "/api/inventory/A", update),
        ("POST", "/api/inventory/bulk", {"updates": [{"sku": "A", **update}]}),
    ]:
        response = await service.rest(method, path, token=reader, json=body)
        assert refusal(response) == (403, "INSUFFICIENT_SCOPE")
        assert response.json()["error"]["details"] == [{"required_scope": "inventory:write"}]
        assert answered(await service.rest("GET", "/api/inventory/A"))["data"]["total_on_hand"] == 5
        for scope in ("write", "admin"):
            answered(await service.rest(method, path, token=scope, json=body))
        update["quantity"] = 5
        answered(await service.rest("PUT", "/api/inventory/A", json=update))


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/inventory", "GET, HEAD"),
        ("/api/inventory/warehouses", "GET, HEAD"),
        ("/api/inventory/bulk", "POST"),
        ("/api/inventory/A", "GET, HEAD, PUT"),
        ("/api/inventory/A/adjustments", "GET, HEAD, POST"),
    ],
)
async def test_unsupported_method_is_rejected_with_the_supported_ones(
    service: Service, path: str, allowed: str
) -> None:
    methods = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"}
    for method in sorted(methods - {*allowed.split(", ")}):
        response = await service.rest(method, path)
        assert (method, *refusal(response)) == (method, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == allowed


async def test_error_has_exactly_the_documented_shape(service: Service) -> None:
    headers = {"X-Request-ID": "client-1"}
    response = await service.rest("GET", "/api/inventory/A", headers=headers)

    assert response.status_code == 404
    assert response.text == (
        '{"error":{"code":"INVENTORY_NOT_FOUND",'
        '"message":"SKU \'A\' has no inventory record.",'
        '"details":[{"sku":"A"}],"request_id":"client-1"}}'
    )


@pytest.mark.parametrize("given", ["abc", "A-1_2.3", "x" * 64, "0", "req_01HX"])
async def test_valid_request_id_is_echoed(service: Service, given: str) -> None:
    for path in ("/api/inventory", "/api/inventory/A", "/api/nothing", "/api/inventory?limit=0"):
        response = await service.rest("GET", path, headers={"X-Request-ID": given})
        assert response.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize(
    "given", ["", " ", "x" * 65, "a b", 'a"b', "<script>", "a;b", "ä", "a\x00", "a/b", "a\tb"]
)
async def test_invalid_request_id_is_replaced(service: Service, given: str) -> None:
    headers = {"X-Request-ID": given.encode("latin-1")}
    response = await service.rest("GET", "/api/inventory/A", headers=headers)

    assert refusal(response) == (404, "INVENTORY_NOT_FOUND")
    [id_] = response.headers.get_list("x-request-id")
    assert re.fullmatch(r"req_[0-9A-HJKMNP-TV-Z]{26}", id_)


async def test_every_response_has_its_own_request_id(service: Service) -> None:
    responses = [await service.rest("GET", "/api/inventory") for _ in range(3)]
    assert len({response.headers["x-request-id"] for response in responses}) == 3


@pytest.mark.parametrize(("method", "path", "options"), ROUTES)
async def test_responses_that_depend_on_the_credential_are_not_cached(
    service: Service, method: str, path: str, options: dict[str, Any]
) -> None:
    response = await service.rest(method, path, **options)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("method", "path", "options"), READS)
async def test_head_has_the_headers_of_get(
    service: Service, method: str, path: str, options: dict[str, Any]
) -> None:
    await service.load([], [sku("A")])

    get = await service.rest(method, path, **options)
    head = await service.rest("HEAD", path, **options)
    assert head.status_code == get.status_code == 200
    assert head.headers["content-type"] == get.headers["content-type"]
