"""Cases of REST requests and the GraphQL operations that must have the same outcome."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from tests.graphql.operations import Json, bulk_item
from tests.graphql.parity_documents import (
    ADJUST,
    AMEND,
    BULK,
    CHANGES,
    EXTEND,
    LEDGER,
    LEVELS,
    RELEASE,
    RESERVATION,
    RESERVE,
    SET,
    SKU,
    SKUS,
    WAREHOUSES,
)

Options = Mapping[str, Any]

PATH: Final = "/api/inventory"
MAIN: Final = "wh_01HX0000000000000000000001"
FBA: Final = "wh_01HX0000000000000000000002"
FBS: Final = "wh_01HX0000000000000000000003"
OLD: Final = "wh_01HX0000000000000000000004"
RETURNS: Final = "wh_01HX0000000000000000000005"
RECORDS: Final = [
    WarehouseRecord(MAIN, "Main", WarehouseType.OWN, None, None, is_active=True),
    WarehouseRecord(FBA, "FBA", WarehouseType.FBA, None, "amazon_eu", is_active=True),
    WarehouseRecord(FBS, "FBS", WarehouseType.FBS, None, "amazon_de", is_active=True),
    WarehouseRecord(OLD, "Old", WarehouseType.THIRD_PARTY, None, None, is_active=False),
    WarehouseRecord(
        RETURNS, "Returns", WarehouseType.OWN, None, None, is_active=True, is_sellable=False
    ),
]
# Codes of one API alone, or codes that need several requests.
ELSEWHERE: Final = {
    *("NOT_FOUND", "IDEMPOTENCY_IN_FLIGHT", "IDEMPOTENCY_KEY_REUSED"),
    *("PERSISTED_QUERY_NOT_FOUND", "PERSISTED_QUERY_NOT_SUPPORTED"),
    *("DOCUMENT_NOT_TRUSTED", "QUERY_TOO_COMPLEX", "RATE_LIMITED", "REQUEST_TIMEOUT"),
    *("EXTERNAL_ID_TAKEN", "SKU_ARCHIVED", "SKU_EXISTS", "WAREHOUSE_NOT_MARKETPLACE"),
    *("ADJUSTMENT_NOT_FOUND", "ALREADY_REVERSED", "RESERVATION_ENDED"),
    *("TOO_MANY_STREAMS", "STREAM_TOO_SLOW"),
    "WEBHOOK_NOT_FOUND",
}

ADJUSTMENT: Final[Json] = {"warehouse_id": MAIN, "delta": 7, "reason": "correction"}
UPDATE: Final[Json] = {"warehouse_id": MAIN, "quantity": 7, "reason": "cycle_count"}
INVALID: Final = (422, "VALIDATION_ERROR")
# REST has the fields of `change` in the update itself, and names the first of them.
NAMES: Final = {"first": "limit", "after": "cursor", "change": "quantity", "text": "q"}


@dataclass(frozen=True)
class Case:
    """A request to each API, and the error that both must return (None: success)."""

    name: str
    method: str
    path: str
    rest: Options
    graphql: Options
    expected: tuple[int, str] | None = None
    credential: str | None = "write"
    graphql_method: str = "POST"
    fields: list[str] = field(default_factory=list)


def operation(document: str, **variables: object) -> Options:
    return {"json": {"query": document, "variables": variables}}


def listed(name: str, expected: tuple[int, str] | None = None, **parameters: str) -> Case:
    """Build a case of the list of SKUs from REST parameters."""
    conditions = {
        GRAPHQL_NAMES[key]: value.upper() if key == "status" else value
        for key, value in parameters.items()
        if key in GRAPHQL_NAMES
    }
    variables = page_of(parameters)
    if id_ := conditions.get("warehouseId"):
        variables["id"] = id_
        del conditions["warehouseId"]
    fields = [key for key in parameters if key in ("limit", "status") or parameters[key] == ""]
    return Case(
        f"a list with {name}",
        "GET",
        PATH,
        {"params": parameters},
        operation(LEVELS if id_ else SKUS, filter=conditions, **variables),
        expected,
        fields=fields if expected == INVALID else ["cursor"] if is_cursor(expected) else [],
    )


def history(name: str, expected: tuple[int, str] | None = None, **parameters: str) -> Case:
    """Build a case of the history of a SKU from REST parameters."""
    code = parameters.pop("sku", "A")
    conditions = {
        GRAPHQL_NAMES[key]: value for key, value in parameters.items() if key in GRAPHQL_NAMES
    }
    fields = [key for key in parameters if key != "cursor"] if expected == INVALID else []
    return Case(
        f"a history with {name}",
        "GET",
        f"{PATH}/{code}/adjustments",
        {"params": parameters},
        operation(LEDGER, filter={"sku": code, **conditions}, **page_of(parameters)),
        expected,
        fields=["cursor"] if is_cursor(expected) else fields,
    )


def update(
    name: str,
    expected: tuple[int, str] | None = None,
    *,
    code: str = "A",
    without: str = "",
    fields: list[str] | None = None,
    **changes: object,
) -> Case:
    """Build a case of one update: UPDATE with changes."""
    body = {key: value for key, value in {**UPDATE, **changes}.items() if key != without}
    own = [*changes] or ([without] if without else [])
    return Case(
        f"an update with {name}",
        "PUT",
        f"{PATH}/{code}",
        {"json": body},
        operation(SET, input={"sku": code, **camel(body)}),
        expected,
        fields=fields if fields is not None else own if expected == INVALID else [],
    )


def adjust(
    name: str,
    expected: tuple[int, str] | None = None,
    *,
    code: str = "A",
    without: str = "",
    **changes: object,
) -> Case:
    """Build a case of one adjustment: ADJUSTMENT with changes."""
    body = {key: value for key, value in {**ADJUSTMENT, **changes}.items() if key != without}
    own = [*changes] or [without]
    return Case(
        f"an adjustment with {name}",
        "POST",
        f"{PATH}/{code}/adjustments",
        {"json": body},
        operation(ADJUST, input={"sku": code, **camel(body)}),
        expected,
        fields=own if expected == INVALID else [],
    )


def bulk(
    name: str, expected: tuple[int, str] | None, updates: list[Json], fields: list[str], **more: str
) -> Case:
    """Build a case of a bulk of updates of SKU A, each UPDATE with changes."""
    whole = [{"sku": "A", **UPDATE, **changes} for changes in updates]
    on_error = {"onError": more["on_error"].upper()} if more else {}
    return Case(
        f"a bulk with {name}",
        "POST",
        f"{PATH}/bulk",
        {"json": {"updates": whole, **more}},
        operation(
            BULK, input={"updates": [graphql_item(update_) for update_ in whole], **on_error}
        ),
        expected,
        fields=fields,
    )


def page_of(parameters: Mapping[str, Any]) -> Json:
    return {
        **({"first": int(parameters["limit"])} if "limit" in parameters else {}),
        **({"after": parameters["cursor"]} if "cursor" in parameters else {}),
    }


def graphql_item(update: Json) -> Json:
    """Update of a GraphQL bulk; null in a REST body is a missing field."""
    return bulk_item({name: value for name, value in camel(update).items() if value is not None})


def camel(body: Json) -> Json:
    return {re.sub(r"_(.)", lambda m: m[1].upper(), key): value for key, value in body.items()}


def is_cursor(expected: tuple[int, str] | None) -> bool:
    return expected is not None and expected[1] == "INVALID_CURSOR"


GRAPHQL_NAMES: Final = {
    "status": "status",
    "warehouse_id": "warehouseId",
    "sku": "sku",
    "q": "text",
    "reason": "reason",
    "start_date": "startDate",
    "end_date": "endDate",
}


def reserve(
    name: str,
    expected: tuple[int, str] | None = None,
    *,
    more: Json | None = None,
    fields: list[str] | None = None,
    **line: object,
) -> Case:
    """Build a case of a reservation with one line; `more` has further fields of the body."""
    held = {"sku": "A", "warehouse_id": MAIN, "quantity": 1, **line}
    if "warehouse_ids" in line:
        del held["warehouse_id"]
    names = {"warehouse_id": "warehouseId", "warehouse_ids": "warehouseIds"}
    named = {names.get(key, key): value for key, value in held.items()}
    both = more or {}
    others = {
        {"expires_in": "expiresIn", "allow_oversell": "allowOversell"}.get(key, key): (
            None if value == "never" else value
        )
        for key, value in both.items()
    }
    return Case(
        f"reserve {name}",
        "POST",
        f"{PATH}/reservations",
        {"json": {"lines": [held], **both}},
        operation(RESERVE, input={"lines": [named], **others}),
        expected,
        fields=fields or [],
    )


def changed(name: str, expected: tuple[int, str] | None = None, **parameters: str) -> Case:
    """Build a case of the feed of changes from REST parameters."""
    variables: Json = {
        key: int(parameters[key]) for key in ("limit", "after") if parameters.get(key, "").isdigit()
    }
    if types := parameters.get("types"):
        variables["types"] = types.upper().split(",")
    if warehouse_id := parameters.get("warehouse_id"):
        variables["warehouseIds"] = [warehouse_id]
    return Case(
        f"changes with {name}",
        "GET",
        f"{PATH}/changes",
        {"params": parameters},
        operation(CHANGES, **variables),
        expected,
        # Of a list, the last value.
        fields=["1" if "types" in parameters else "limit"] if expected == INVALID else [],
    )


CASES: Final = [
    changed("nothing"),
    changed("every filter", after="0", types="stock_changed,sku_created", warehouse_id=MAIN),
    changed("a position beyond the newest", (410, "CHANGES_GONE"), after="1000"),
    changed("limit 0", INVALID, limit="0"),
    changed("an unknown type", INVALID, types="stock_changed,stolen"),
    changed("an unknown warehouse", (404, "WAREHOUSE_NOT_FOUND"), warehouse_id="wh_1"),
    reserve("available stock"),
    reserve("for an hour", more={"expires_in": 3600, "reference": "order-1", "note": "Box"}),
    reserve("too much", (422, "INSUFFICIENT_STOCK"), quantity=6),
    reserve("an unknown SKU", (404, "INVENTORY_NOT_FOUND"), sku="NOPE"),
    reserve("an unknown warehouse", (404, "WAREHOUSE_NOT_FOUND"), warehouse_id="wh_1"),
    reserve("at FBA", (403, "READONLY_WAREHOUSE"), warehouse_id=FBA),
    reserve("where inactive", (422, "WAREHOUSE_INACTIVE"), warehouse_id=OLD),
    reserve("where not for sale", (422, "WAREHOUSE_NOT_SELLABLE"), warehouse_id=RETURNS),
    reserve("nothing", INVALID, quantity=0, fields=["quantity"]),
    reserve("a decimal quantity", INVALID, quantity=1.0, fields=["quantity"]),
    reserve("for no time", INVALID, more={"expires_in": 0}, fields=["expires_in"]),
    reserve("from the first of several", warehouse_ids=[FBA, MAIN]),
    reserve("from several together", warehouse_ids=[FBA, MAIN], split=True),
    reserve("from none", INVALID, warehouse_ids=[], fields=["warehouse_id"]),
    reserve("from one twice", INVALID, warehouse_ids=[MAIN] * 2, fields=["warehouse_ids"]),
    reserve(
        "too much of several", (422, "INSUFFICIENT_STOCK"), warehouse_ids=[FBA, MAIN], quantity=6
    ),
    reserve("without expiry", (403, "EXPIRY_REQUIRED"), more={"expires_in": "never"}),
    Case(
        "amend an unknown reservation",
        "POST",
        f"{PATH}/reservations/rsv_1/amend",
        {"json": {"lines": [{"sku": "A", "warehouse_id": MAIN, "quantity": 1}]}},
        operation(
            AMEND,
            input={"id": "rsv_1", "lines": [{"sku": "A", "warehouseId": MAIN, "quantity": 1}]},
        ),
        (404, "RESERVATION_NOT_FOUND"),
    ),
    Case(
        "extend without a time",
        "POST",
        f"{PATH}/reservations/rsv_1/extend",
        {"json": {}},
        operation(EXTEND, input={"id": "rsv_1"}),
        INVALID,
        fields=["expires_in"],
    ),
    reserve("with an empty reference", INVALID, more={"reference": ""}, fields=["reference"]),
    reserve(
        "more than is permitted", (403, "OVERSELL_NOT_PERMITTED"), more={"allow_oversell": True}
    ),
    Case(
        "an unknown reservation",
        "GET",
        f"{PATH}/reservations/rsv_1",
        {},
        operation(RESERVATION, id="rsv_1"),
        (404, "RESERVATION_NOT_FOUND"),
    ),
    Case(
        "release an unknown reservation",
        "POST",
        f"{PATH}/reservations/rsv_1/release",
        {"json": {}},
        operation(RELEASE, input={"id": "rsv_1"}),
        (404, "RESERVATION_NOT_FOUND"),
    ),
    listed("no filter"),
    listed("a limit", limit="1"),
    listed("the highest limit", limit="200"),
    listed("every filter", status="normal", warehouse_id=MAIN, sku="A"),
    listed("an unknown SKU", sku="NOPE"),
    listed("a text", q="a"),
    listed("an empty text", INVALID, q=""),
    listed("limit 0", INVALID, limit="0"),
    listed("limit 201", INVALID, limit="201"),
    listed("a negative limit", INVALID, limit="-1"),
    listed("an unknown status", INVALID, status="gone"),
    listed("an unknown warehouse", (404, "WAREHOUSE_NOT_FOUND"), warehouse_id="wh_1"),
    listed("an empty warehouse", INVALID, warehouse_id=""),
    listed("an empty SKU", INVALID, sku=""),
    listed("an empty status", INVALID, status=""),
    listed("NUL for a warehouse", (404, "WAREHOUSE_NOT_FOUND"), warehouse_id="\x00"),
    listed("a made-up cursor", (422, "INVALID_CURSOR"), cursor="cursor_abc123"),
    listed("an empty cursor", (422, "INVALID_CURSOR"), cursor=""),
    # The warehouse is looked up before its list is read.
    listed(
        "a bad cursor and warehouse", (404, "WAREHOUSE_NOT_FOUND"), cursor="x", warehouse_id="w"
    ),
    listed("a bad cursor of a warehouse", (422, "INVALID_CURSOR"), cursor="x", warehouse_id=MAIN),
    Case("a SKU", "GET", f"{PATH}/A", {}, operation(SKU, sku="A")),
    Case(
        "an unknown SKU",
        "GET",
        f"{PATH}/NOPE",
        {},
        operation(SKU, sku="NOPE"),
        (404, "INVENTORY_NOT_FOUND"),
    ),
    Case(
        "NUL for a SKU",
        "GET",
        f"{PATH}/%00",
        {},
        operation(SKU, sku="\x00"),
        (404, "INVENTORY_NOT_FOUND"),
    ),
    Case("warehouses", "GET", f"{PATH}/warehouses", {}, operation(WAREHOUSES)),
    history("nothing"),
    history("a limit", limit="1"),
    history("every filter", warehouse_id=MAIN, reason="loss", start_date="2026-01-01"),
    history("an unknown SKU", (404, "INVENTORY_NOT_FOUND"), sku="NOPE"),
    history("an unknown warehouse", (404, "WAREHOUSE_NOT_FOUND"), warehouse_id="wh_1"),
    history("limit 201", INVALID, limit="201"),
    history("a bad reason", INVALID, reason="Bad reason"),
    history("an empty reason", INVALID, reason=""),
    history("an empty warehouse", INVALID, warehouse_id=""),
    history("a bad start", INVALID, start_date="yesterday"),
    history("a bad end", INVALID, end_date="2026-02-30"),
    history("bad dates", INVALID, start_date="2026", end_date="03/01/2026"),
    history("a made-up cursor", (422, "INVALID_CURSOR"), cursor="cursor_abc123"),
    history("an unknown SKU and a bad reason", INVALID, sku="NOPE", reason="Bad"),
    update("the required fields"),
    update("a note", note="Counted twice"),
    update("null for a note", note=None),
    update("the longest note", note="é" * 1000),
    update("the highest quantity", quantity=10**12),
    update("no stock left", quantity=0),
    update("a decrease in an inactive warehouse", warehouse_id=OLD, quantity=1),
    update("the expected quantity", expected_quantity=5, quantity=5),
    update("an unknown SKU", (404, "INVENTORY_NOT_FOUND"), code="NOPE"),
    update("an unknown warehouse", (404, "WAREHOUSE_NOT_FOUND"), warehouse_id="wh_1"),
    update("an FBA warehouse", (403, "READONLY_WAREHOUSE"), warehouse_id=FBA),
    update("an FBS warehouse", (403, "READONLY_WAREHOUSE"), warehouse_id=FBS),
    update(
        "a negative quantity for FBA", (403, "READONLY_WAREHOUSE"), warehouse_id=FBA, quantity=-1
    ),
    update("a negative quantity", (422, "NEGATIVE_QUANTITY"), quantity=-1, fields=["quantity"]),
    update("an increase where inactive", (422, "WAREHOUSE_INACTIVE"), warehouse_id=OLD, quantity=9),
    update("a stale quantity", (409, "STALE_VERSION"), expected_quantity=4, fields=["any"]),
    update("too high a quantity", INVALID, quantity=10**12 + 1),
    update("an enormous quantity", INVALID, quantity=10**30),
    update("a decimal quantity", INVALID, quantity=5.0),
    update("a quantity in quotes", INVALID, quantity="5"),
    update("true for a quantity", INVALID, quantity=True),
    update("null for a quantity", INVALID, quantity=None),
    update("no quantity", INVALID, without="quantity"),
    update("no warehouse", INVALID, without="warehouse_id"),
    update("no reason", INVALID, without="reason"),
    update("null for a reason", INVALID, reason=None),
    update("a number for a reason", INVALID, reason=5),
    update("a bad reason", INVALID, reason="Bad Reason"),
    update("too long a reason", INVALID, reason="a" * 65),
    update("too long a note", INVALID, note="x" * 1001),
    update("NUL in a note", INVALID, note="a\x00b"),
    update("a number for a note", INVALID, note=5),
    update("an unknown field", INVALID, colour="red"),
    update("many mistakes", INVALID, quantity=10**13, reason="", note="x" * 2000),
    update("a mistake and an unknown SKU", INVALID, code="NOPE", reason=""),
    adjust("the required fields"),
    adjust("a loss", delta=-1),
    adjust("an unknown SKU", (404, "INVENTORY_NOT_FOUND"), code="NOPE"),
    adjust("an unknown warehouse", (404, "WAREHOUSE_NOT_FOUND"), warehouse_id="wh_1"),
    adjust("an FBA warehouse", (403, "READONLY_WAREHOUSE"), warehouse_id=FBA),
    adjust("an increase where inactive", (422, "WAREHOUSE_INACTIVE"), warehouse_id=OLD),
    adjust("a decrease where inactive", warehouse_id=OLD, delta=-1),
    adjust("too high a delta", INVALID, delta=10**12 + 1),
    adjust("a delta beyond the maximum", INVALID, delta=10**12),
    adjust("a decimal delta", INVALID, delta=1.0),
    adjust("no delta", INVALID, without="delta"),
    adjust("an unknown field", INVALID, quantity=1),
    bulk("one update", None, [{}], []),
    bulk("an adjustment", None, [{"sku": "B"}, {"quantity": None, "delta": -1}], []),
    bulk("both a quantity and a delta", INVALID, [{"delta": 1}], ["quantity"]),
    bulk("neither quantity nor delta", INVALID, [{"quantity": None}], ["quantity"]),
    bulk("two levels", None, [{}, {"warehouse_id": OLD, "quantity": 0}], []),
    bulk("failures let through", None, [{}, {"sku": "NOPE"}], [], on_error="continue"),
    bulk("a failure", (404, "INVENTORY_NOT_FOUND"), [{}, {"sku": "NOPE"}], []),
    bulk(
        "several failures",
        (403, "READONLY_WAREHOUSE"),
        [{"warehouse_id": FBA}, {"sku": "NOPE"}],
        [],
        on_error="abort",
    ),
    bulk("nothing", INVALID, [], ["updates"]),
    bulk("501 updates", INVALID, [{"sku": f"S{n}"} for n in range(501)], ["updates"]),
    bulk("a level twice", INVALID, [{}, {}], ["1"]),
    bulk("a bad reason", INVALID, [{}, {"sku": "B", "reason": "Bad"}], ["reason"]),
    bulk("a bad reason let through", None, [{"reason": "B"}], [], on_error="continue"),
    bulk("a decimal quantity", INVALID, [{"quantity": 1.0}], ["quantity"]),
    bulk("an unknown mode", INVALID, [{}], ["on_error"], on_error="maybe"),
    Case(
        "invalid JSON",
        "PUT",
        f"{PATH}/A",
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        (400, "MALFORMED_REQUEST"),
    ),
    Case(
        "a key twice",
        "POST",
        f"{PATH}/bulk",
        {"content": b'{"updates": [], "updates": []}'}
        | {"headers": {"Content-Type": "application/json"}},
        {"content": b'{"query": "{x}", "query": "{y}"}'}
        | {"headers": {"Content-Type": "application/json"}},
        (400, "MALFORMED_REQUEST"),
    ),
    Case(
        "another content type",
        "PUT",
        f"{PATH}/A",
        {"data": {"quantity": "1"}},
        {"data": {"query": "{x}"}},
        (415, "UNSUPPORTED_MEDIA_TYPE"),
    ),
    Case(
        "too long a body",
        "PUT",
        f"{PATH}/A",
        {"json": {**UPDATE, "note": "x" * (4 * 1024 * 1024)}},
        operation("{ __typename }" + " " * (4 * 1024 * 1024)),
        (413, "PAYLOAD_TOO_LARGE"),
    ),
    Case(
        "another method",
        "DELETE",
        f"{PATH}/A",
        {},
        {},
        (405, "METHOD_NOT_ALLOWED"),
        graphql_method="DELETE",
    ),
]
READS: Final = [case for case in CASES if case.method == "GET" and case.expected is None]
# Cases with a valid GraphQL body; the scope of a GraphQL request depends on its body.
WRITES: Final = [
    case
    for case in CASES
    if case.method in ("PUT", "POST") and "json" in case.graphql and case.name != "too long a body"
]
UNAUTHENTICATED: Final = (401, "UNAUTHENTICATED")
INSUFFICIENT: Final = (403, "INSUFFICIENT_SCOPE")
