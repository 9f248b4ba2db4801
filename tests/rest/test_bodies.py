"""Request bodies: invalid JSON, length limit and content type."""

import json
from typing import Final
from unittest.mock import patch

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.database.migration import migrate
from app.errors import MalformedRequest, PayloadTooLarge
from app.http.json import NOT_CANONICAL, parse_json
from tests.rest.answers import answered, refusal
from tests.service import Service, level, new_tenant, running, sku, warehouse

ROUTES: Final = [("PUT", "/api/inventory/A"), ("POST", "/api/inventory/bulk")]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)
JSON: Final = {"Content-Type": "application/json"}
MALFORMED: Final = (400, "MALFORMED_REQUEST")

NOT_JSON: Final = {
    "empty": b"",
    "spaces": b"  \n",
    "a word": b"hello",
    "unfinished": b'{"quantity": 5',
    "a comma too many": b'{"quantity": 5,}',
    "single quotes": b"{'quantity': 5}",
    "no quotes": b"{quantity: 5}",
    "a comment": b'{"quantity": 5} // five',
    "two values": b"{} {}",
    "form": b"quantity=5",
    "True": b'{"quantity": True}',
    "None": b"None",
    "NaN": b'{"quantity": NaN}',
    "Infinity": b'{"quantity": Infinity}',
    "-Infinity": b'{"quantity": -Infinity}',
    "beyond a double": b'{"quantity": 1e999}',
    "leading zero": b'{"quantity": 05}',
    "plus sign": b'{"quantity": +5}',
    "hexadecimal": b'{"quantity": 0x5}',
    "no digit after the point": b'{"quantity": 5.}',
    "no digit before the point": b'{"quantity": .5}',
    "other digits": '{"quantity": ٣}'.encode(),
    "5000 digits": b'{"quantity": ' + b"9" * 5_000 + b"}",
    "-5000 digits": b'{"quantity": -' + b"9" * 5_000 + b"}",
    "a key twice": b'{"quantity": 5, "quantity": 5}',
    "an escaped key twice": b'{"quantity": 5, "\\u0071uantity": 6}',
    "a key twice further in": b'{"updates": [{"sku": "A", "sku": "B"}]}',
    "a key twice where nobody looks": b'{"note": {"a": 1, "a": 2}}',
    "latin-1": '{"note": "größer"}'.encode("latin-1"),
    "cut off": b'{"note": "gr\xc3"}',
    "overlong": b'{"note": "\xc0\x80"}',
    "surrogate bytes": b'{"note": "\xed\xa0\x80"}',
    "UTF-16": '{"quantity": 5}'.encode("utf-16"),
    "UTF-16 without mark": '{"quantity": 5}'.encode("utf-16-le"),
    "UTF-32": '{"quantity": 5}'.encode("utf-32"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "lone surrogate": b'{"note": "\\ud800"}',
    "lone low surrogate": b'{"note": "\\udc00 x"}',
    "surrogates the wrong way round": b'{"note": "\\udc00\\ud800"}',
    "lone surrogate in a key": b'{"\\uD800": 1}',
    "control character": b'{"note": "a\nb"}',
    "NUL": b'{"note": "a\x00b"}',
    "NUL after it": b"{}\x00",
    "unknown escape": b'{"note": "\\x41"}',
    "lists 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "lists 100,000 deep and open": b"[" * 100_000,
    "objects 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=[*NOT_JSON])
async def test_invalid_json_is_malformed(service: Service, body: bytes) -> None:
    for method, path in ROUTES:
        response = await service.rest(method, path, content=body, headers=JSON)
        assert refusal(response) == MALFORMED


# Tokens of JSON without spaces, valid and invalid.
PIECES: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"a":', b'"b":', b'{"a":1}', b'{"a":1,"a":1}', b"[1,2]"),
    *(b"0", b"-0", b"-0.0", b"7", b"1.0", b"1.50", b"1e5", b"1e999", b"5e-324", b"05"),
    *(
        b"9007199254740993",
        b"18446744073709551615",
        b"18446744073709551616",
        b"-9223372036854775809",
    ),
    *(
        b"true",
        b"null",
        b"NaN",
        b"Infinity",
        b'""',
        b'"\\u00e9"',
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
    ),
    *('"é"'.encode(), b'"\xff"', b'"\x00"', b'"\\/"', b" ", b"[" * 63, b"]" * 63),
)


def meaning(body: bytes) -> str:
    """Return the parsed value of a body as text, or "refused"."""
    try:
        return repr(parse_json(body))
    except MalformedRequest:
        return "refused"


def strict_meaning(body: bytes) -> str:
    """Return the parsed value of a body by the strict parser, or "refused"."""
    with patch("app.http.json._parse_canonical", return_value=NOT_CANONICAL):
        return meaning(body)


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join))
def test_whitespace_does_not_change_the_meaning_of_a_body(body: bytes) -> None:
    assert meaning(body) == strict_meaning(body)


@given(json_values)
def test_compact_json_is_parsed_exactly(value: object) -> None:
    body = orjson.dumps(value)
    assert parse_json(body) == value
    assert meaning(body) == strict_meaning(body)


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=[*NOT_JSON])
def test_invalid_json_is_also_malformed_without_spaces(body: bytes) -> None:
    assert meaning(body.replace(b": ", b":").replace(b", ", b",")) == "refused"


@pytest.mark.parametrize(("before", "after"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/inventory/A", '{"warehouse_id":"wh","reason":"loss","quantity":%s}'),
        ("PUT", "/api/inventory/A", '{"warehouse_id":"wh","quantity":1,"reason":%s}'),
        ("POST", "/api/inventory/bulk", '{"updates":%s}'),
        ("POST", "/api/inventory/bulk", '{"updates":[{"sku":%s}]}'),
    ],
)
async def test_deep_nesting_is_rejected_without_a_crash(
    service: Service, method: str, path: str, body: str, before: str, after: str
) -> None:
    for depth in (1, 10, 100, 300, 500, *range(700, 1_000, 10), 2_000, 10_000):
        content = body % f"{before * depth}1{after * depth}"
        response = await service.rest(method, path, content=content, headers=JSON)
        assert (depth, refusal(response)) in (
            (depth, (400, "MALFORMED_REQUEST")),
            (depth, (422, "VALIDATION_ERROR")),
        )


@pytest.mark.parametrize(
    "type_",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application",
        "json",
        "*/*",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; charset=",
        "application/json, text/plain",
        "text/plain; application/json",
        "application/merge-patch+json",
    ],
)
async def test_a_body_that_is_not_declared_as_json_in_utf8_is_refused(
    service: Service, type_: str | None
) -> None:
    for method, path in ROUTES:
        headers = {} if type_ is None else {"Content-Type": type_}
        response = await service.rest(method, path, content=b"{}", headers=headers)
        assert refusal(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "type_",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json ; charset=utf-8",
    ],
)
async def test_all_spellings_of_the_json_content_type_are_accepted(
    service: Service, type_: str
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])

    text = f' {{"warehouse_id":\t"{main.id}", "quantity": 7,\r\n "reason": "l\\u006fss"}} \n'
    response = await service.rest(
        "PUT", "/api/inventory/A", content=text, headers={"Content-Type": type_}
    )
    assert answered(response)["data"]["total_on_hand"] == 7


async def test_a_body_beyond_the_limit_is_too_large(empty_database_url: str) -> None:
    limit = 2_000
    async with running(empty_database_url, max_body_bytes=limit) as (app, client):
        await migrate(app.state.database)
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        main = warehouse()
        await service.load([main], [sku("A", level(main, 5))])
        update = {"warehouse_id": main.id, "quantity": 7, "reason": "loss"}
        bodies = {
            "/api/inventory/A": json.dumps(update),
            "/api/inventory/bulk": json.dumps({"updates": [{"sku": "A", **update}]}),
        }
        for method, path in ROUTES:
            content = bodies[path].ljust(limit)
            answered(await service.rest(method, path, content=content, headers=JSON))
            response = await service.rest(method, path, content=content + " ", headers=JSON)
            assert refusal(response) == (413, "PAYLOAD_TOO_LARGE")
            assert response.json()["error"]["details"] == [{"limit_bytes": limit}]
            endless = await service.rest(method, path, content=b"[" * 10_000_000, headers=JSON)
            assert refusal(endless) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("rest", [b'"' + b'\\"' * 2_000_000, b'"' * 4_000_001, b'"\\' * 1_300_000])
def test_a_string_without_an_end_is_refused_in_linear_time(rest: bytes) -> None:
    with pytest.raises((MalformedRequest, PayloadTooLarge)):
        parse_json(b"[" + b'",",' * 20_001 + rest)
