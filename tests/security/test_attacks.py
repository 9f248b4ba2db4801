"""Attacks on headers, keys, cursors, paths, bodies and the log."""

import asyncio
import gzip
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from tests.security.stock_requests import MAIN, PRECISE, SET, UPDATE, code_of, on_hand, put
from tests.service import Service, new_tenant


# Two readers may each see another of two equal headers.
@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Idempotency-Key"])
@pytest.mark.parametrize("good_first", [True, False])
async def test_a_repeated_security_header_is_refused(
    stocked: Service, name: str, *, good_first: bool
) -> None:
    headers = {
        "Authorization": f"Bearer {stocked.token('write')}",
        "Content-Type": "application/json",
        "Idempotency-Key": "k",
    }
    other = {"Authorization": "Bearer x", "Content-Type": "text/plain", "Idempotency-Key": "l"}
    pairs = [*headers.items(), (name, other[name])]
    for path, body in [
        ("/api/inventory/A", UPDATE),
        ("/graphql", {"query": f"mutation {{ {SET} }}"}),
    ]:
        response = await stocked.client.request(
            "PUT" if path != "/graphql" else "POST",
            path,
            content=json.dumps(body),
            headers=pairs if good_first else pairs[::-1],
        )
        assert code_of(response) == (400, "MALFORMED_REQUEST")
    assert await on_hand(stocked) == 5


async def test_a_key_of_another_tenant_or_token_replays_nothing(stocked: Service) -> None:
    key = {"Idempotency-Key": "shared"}
    other = replace(stocked, tenant_id=await new_tenant(stocked.database))
    assert (await put(stocked, headers=key)).status_code == 200

    of_other = await put(other, headers=key)
    of_admin = await put(stocked, token="admin", headers=key)

    assert code_of(of_other)[0] == 404
    assert of_admin.status_code == 200
    for response in (of_other, of_admin):
        assert "idempotent-replayed" not in response.headers


async def test_a_key_shared_by_two_tokens_is_two_keys(stocked: Service) -> None:
    answers = await asyncio.gather(
        *(
            stocked.rest(
                "POST",
                "/api/inventory/A/adjustments",
                token=token,
                json={"warehouse_id": MAIN.id, "delta": 1, "reason": "x"},
                headers={"Idempotency-Key": "k"},
            )
            for token in ("write", "admin") * 3
        )
    )
    done = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["data"]["id"] for answer in done}) == 2
    assert await on_hand(stocked) == 7


@pytest.mark.parametrize("dry_run_first", [True, False])
async def test_a_dry_run_is_never_replayed_as_the_write(
    stocked: Service, *, dry_run_first: bool
) -> None:
    key = {"Idempotency-Key": "k"}
    tries = [{"dry_run": "true"}, {}]
    seen = []
    for params in tries if dry_run_first else tries[::-1]:
        answer = await put(stocked, headers=key, params=params)
        assert answer.status_code == 200
        seen.append((await on_hand(stocked), "idempotent-replayed" in answer.headers))
    # A dry run after the write announces that the write would be replayed.
    assert seen == ([(5, False), (9, False)] if dry_run_first else [(9, False), (9, True)])


@pytest.mark.parametrize(
    "tags",
    [
        ", ".join(f'"{i}"' for i in range(2, 1_200)),
        '"0"', '"-1"', '"99999999999999999999"', 'W/"1"', '"1', "1", '"*"', '"1 "', '""',
        '"1e0"', '"٢"', "'1'",
    ],
)  # fmt: skip
async def test_a_guessed_tag_is_refused(stocked: Service, tags: str) -> None:
    version = (await stocked.rest("GET", "/api/inventory/A")).headers["etag"]
    assert version == '"0"' or tags != version

    tags = '"7"' if tags == version else tags
    response = await put(stocked, headers={"If-Match": tags.encode()})

    assert code_of(response) in ((412, "STALE_VERSION"), (422, "VALIDATION_ERROR"))
    assert await on_hand(stocked) == 5


LISTS: Final = {
    "skus": "skus(first: 1, after: $c) { pageInfo { endCursor } }",
    "skus of a status": "skus(first: 1, after: $c, filter: {status: NORMAL}) { pageInfo { endCursor } }",
    "skus backwards": "skus(first: 1, after: $c, orderBy: SKU_DESC) { pageInfo { endCursor } }",
    "ledger": "adjustments(first: 1, after: $c) { pageInfo { endCursor } }",
    "ledger of a SKU": 'adjustments(first: 1, after: $c, filter: {sku: "A"}) { pageInfo { endCursor } }',
    "ledger by SKU": 'sku(sku: "A") { adjustments(first: 1, after: $c) { pageInfo { endCursor } } }',
    "levels": f'warehouse(id: "{MAIN.id}") {{ stock(first: 1, after: $c) {{ pageInfo {{ endCursor }} }} }}',
}  # fmt: skip


def end_cursor(data: Any) -> str:
    """Cursor of the only page of a response."""
    while "pageInfo" not in data:
        [data] = data.values()
    cursor: str = data["pageInfo"]["endCursor"]
    return cursor


async def test_a_cursor_is_valid_only_for_its_own_list(stocked: Service) -> None:
    other = replace(stocked, tenant_id=await new_tenant(stocked.database))
    for name, query in LISTS.items():
        data = await stocked.data(f"query ($c: String) {{ {query} }}")
        cursor = end_cursor(data)
        flipped = [cursor[:i] + chr(ord(cursor[i]) ^ 1) + cursor[i + 1 :] for i in (0, 8, 20, -1)]
        foreign = [(stocked, it) for other_name, it in LISTS.items() if other_name != name]
        tries = [(service, it, cursor) for service, it in [*foreign, (other, LISTS["skus"])]]
        for service, tried, with_cursor in [*tries, *((stocked, query, it) for it in flipped)]:
            answer = await service.graphql(f"query ($c: String) {{ {tried} }}", {"c": with_cursor})
            codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
            assert codes == {"INVALID_CURSOR"}, (name, tried, with_cursor)


LOOKALIKES: Final = [
        "\u0391", "\u0410", "\u200bA", "A\u200d", "\u202eA", "A\ufeff", "\uff21", "\U0001d400", " A", "A ",
        "a", "A\u0000", "A\r\nX: y", "A%00", "..", ".", "A'--", 'A" OR 1=1', "%", "_", "*", "A\ud7ff",
        "-0", "null", "__proto__", "warehouses ", "A;B", "A/../B", "C/1/..", "x" * 65, "\U000e0041",
    ]  # fmt: skip


async def test_lookalike_codes_are_different_skus(stocked: Service) -> None:
    for code in LOOKALIKES:
        path = "".join(f"%{byte:02X}" for byte in code.encode())
        read = await stocked.rest("GET", f"/api/inventory/{path}")
        written = await stocked.rest("PUT", f"/api/inventory/{path}", json=UPDATE)
        in_bulk = await stocked.rest(
            "POST", "/api/inventory/bulk", json={"updates": [{**UPDATE, "sku": code}]}
        )

        for response in (read, written, in_bulk):
            assert code_of(response)[0] in (404, 405, 422), response.text
        for known in ("A", "B", "Ä", "C/1"):
            assert await on_hand(stocked, known) == 5


PATHS: Final = [
        "/api/inventory/%C0%AE%C0%AE", "/api/inventory/%ED%A0%80", "/api/inventory/%FF", "/api/inventory/%",
        "/api/inventory/%zz", "/api/inventory/%2541", "/api/inventory/%252e", "/api/inventory/A%00",
        "/api/inventory/%0d%0aSet-Cookie:x", "/api/inventory/A%2F..%2FB",
        "/api/inventory/../../etc/passwd", "/api//inventory/A", "/api/inventory/A/", "/API/inventory/A",
        "/api/inventory/A;x=1", "/static/../main.py", "/static/%2e%2e/%2e%2e/main.py",
        "/static/..%2f..%2fmain.py", "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fpyproject.toml", "/static//etc/passwd",
        "/static/%00", "/static/" + "a" * 5_000, "/static/..%5c..%5cmain.py", "/graphql/", "/graphql%00",
    ]  # fmt: skip


async def test_a_disguised_path_is_not_found(stocked: Service) -> None:
    for path in PATHS:
        url = httpx.URL("http://service").copy_with(raw_path=path.encode())
        headers = {"Authorization": f"Bearer {stocked.token('write')}"}
        response = await stocked.client.request("GET", url, headers=headers)

        assert code_of(response)[0] in (400, 404), response.text
        assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "PUT"}, {"X-Method-Override": "PUT"}, {"X-HTTP-Method": "PUT"},
        {"X-Original-URL": "/api/inventory/A"}, {"X-Rewrite-URL": "/api/inventory/A"},
        {"X-Forwarded-Prefix": "/x"}, {"Forwarded": "for=127.0.0.1"},
    ],
)  # fmt: skip
async def test_no_header_changes_the_method_or_the_path(
    stocked: Service, headers: dict[str, str]
) -> None:
    response = await stocked.rest("POST", "/api/inventory/A", json=UPDATE, headers=headers)

    assert code_of(response) == (405, "METHOD_NOT_ALLOWED")
    assert await on_hand(stocked) == 5


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PUT "])
@pytest.mark.parametrize("path", ["/api/inventory/A/adjustments", "/graphql", "/healthz"])
async def test_other_methods_do_not_echo_headers(stocked: Service, method: str, path: str) -> None:
    response = await stocked.rest(method, path, headers={"X-Secret": "s3cret"})

    assert code_of(response)[0] in (404, 405)
    assert "s3cret" not in response.text


TYPES: Final = [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
    "application/json; charset=utf-16", "application/json, text/plain", "application/json;text/plain",
    "text/plain; application/json", "application/jsonx", "application/vnd.api+json", "*/*", "text/json",
]  # fmt: skip


@pytest.mark.parametrize("type_", TYPES)
async def test_cross_site_requests_write_nothing(stocked: Service, type_: str) -> None:
    for method, path, body in [
        ("PUT", "/api/inventory/A", UPDATE),
        ("POST", "/api/inventory/bulk", {"updates": [{**UPDATE, "sku": "A"}]}),
        ("POST", "/graphql", {"query": f"mutation {{ {SET} }}"}),
    ]:
        headers = {"Content-Type": type_, "Origin": "https://evil.example"}
        response = await stocked.rest(method, path, content=json.dumps(body), headers=headers)
        assert code_of(response) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert "access-control-allow-origin" not in response.headers
    assert await on_hand(stocked) == 5


async def test_a_compressed_bomb_is_not_unpacked(stocked: Service) -> None:
    bomb = gzip.compress(b'{"query": "' + b" " * 20_000_000 + b'{__typename}"}')
    for encoding in ("gzip", "deflate", "br", "gzip, gzip"):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        response = await stocked.rest("POST", "/graphql", content=bomb, headers=headers)
        assert code_of(response)[0] in (400, 415)


QUANTITIES: Final = {
    "-0": 0, "1E2": None, "1e2": None, "1.0": None, "1e400": None, "-1e400": None, "1000000000000": 10**12,
    "1000000000001": None, "9223372036854775808": None, "0x10": None, "010": None, "+1": None, "1_000": None,
    "NaN": None, "Infinity": None, "true": None, '"5"': None, "[5]": None, '{"a": 5}': None, "null": None,
    "٣": None, "1" + "0" * 5_000: None, "-1": None, "0.0": None, "": None,
}  # fmt: skip


@pytest.mark.parametrize("number", QUANTITIES)
async def test_a_number_is_read_exactly_or_refused(stocked: Service, number: str) -> None:
    expected = QUANTITIES[number]
    body = json.dumps({**UPDATE, "quantity": "?"}).replace('"?"', number)
    response = await put(
        stocked, json=None, content=body.encode(), headers={"Content-Type": "application/json"}
    )

    assert (
        response.status_code == 200 if expected is not None else code_of(response)[0] in (400, 422)
    )
    assert await on_hand(stocked) == (5 if expected is None else expected)


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf%b", b"%b%b", b"%b\x00", b"%b//", b"\x00%b", b"[%b]", b"%b,", b" \x0b%b",
    ],
)  # fmt: skip
async def test_a_body_is_one_json_object_and_nothing_else(stocked: Service, body: bytes) -> None:
    whole = json.dumps(UPDATE).encode()
    content = body.replace(b"%b", whole)
    response = await put(
        stocked, json=None, content=content, headers={"Content-Type": "application/json"}
    )

    assert code_of(response)[0] in (400, 422)
    assert await on_hand(stocked) == 5


@pytest.mark.parametrize(
    "name", ["__proto__", "constructor", "__class__", "self", "sku", "tenant_id", "tenant", "Quantity", "quantity "]
)  # fmt: skip
async def test_an_unknown_field_is_refused(stocked: Service, name: str) -> None:
    response = await put(stocked, json={**UPDATE, name: {"tenant": "other"}})

    assert code_of(response) == (422, "VALIDATION_ERROR")
    assert await on_hand(stocked) == 5


async def test_a_body_on_a_get_is_not_read(stocked: Service) -> None:
    body = {"query": f"mutation {{ {SET} }}"}
    response = await stocked.rest("GET", "/graphql", json=body, headers=PRECISE)
    listed = await stocked.rest("GET", "/api/inventory/A", json=UPDATE)

    assert code_of(response) == (400, "MALFORMED_REQUEST")
    assert listed.status_code == 200
    assert await on_hand(stocked) == 5


REQUEST_IDS: Final = ["a b", "<script>", "x" * 65, "", "a\u00e9", "a,b", '"', "{}", "${jndi:ldap://x}", "a/b"]  # fmt: skip


async def test_an_unsafe_request_id_is_replaced(stocked: Service) -> None:
    for given in REQUEST_IDS:
        response = await stocked.rest(
            "GET", "/api/inventory/NOPE", headers={"X-Request-ID": given.encode("latin-1")}
        )

        assert response.headers["x-request-id"].startswith("req_")
        assert code_of(response) == (404, "INVENTORY_NOT_FOUND")


def test_clients_cannot_forge_log_lines() -> None:
    forged = '/api/inventory/\r\n{"event": "forged"}\n\u2028'
    code = (
        "from app.http.logs import configure_logs\nimport logging, structlog\nconfigure_logs('info')\n"
        f"structlog.get_logger().info('request', path={forged!r})\n"
        f"logging.getLogger('other').error('path %s', {forged!r})\n"
    )
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    events = [json.loads(line)["event"] for line in done.stderr.split("\n") if line]
    assert events == ["request", f"path {forged}"]


async def test_five_hundred_contradicting_items_are_all_applied_or_none(
    stocked: Service,
) -> None:
    for key in ({}, {"Idempotency-Key": "k"}):
        updates = [{**UPDATE, "sku": "A", "quantity": number} for number in range(500)]
        response = await stocked.rest(
            "POST", "/api/inventory/bulk", json={"updates": updates}, headers=key
        )
        assert response.status_code == 422
        assert await on_hand(stocked) == 5


async def test_a_sku_of_another_tenant_looks_like_a_missing_sku(stocked: Service) -> None:
    other = replace(stocked, tenant_id=await new_tenant(stocked.database))
    for path in ("/api/inventory/{}", "/api/inventory/{}/adjustments"):
        existing, missing = [
            await other.rest("GET", path.format(code), headers={"X-Request-ID": "r"})
            for code in ("A", "Z")
        ]
        assert existing.text.replace("'A'", "'Z'").replace('"A"', '"Z"') == missing.text
        assert existing.headers == missing.headers
