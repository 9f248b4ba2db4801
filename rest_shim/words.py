"""What people read of the REST routes: words, shapes, and the published document's examples."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.errors import (
    InsufficientStock,
    InventoryError,
    InventoryNotFound,
    MethodNotAllowed,
    NegativeQuantity,
    OversellNotPermitted,
    ReadonlyWarehouse,
    ReservationEnded,
    ReservationNotFound,
    SkuArchived,
    StaleVersion,
    WarehouseInactive,
    WarehouseNotFound,
)
from app.graphql.relay import DEFAULT_PAGE, MAX_PAGE
from app.http import REQUEST_ID_HEADER
from app.stock import (
    DEFAULT_HOLD,
    MAX_BULK_UPDATES,
    MAX_HOLD,
    MAX_NOTE_LENGTH,
    MAX_QUANTITY,
    MAX_REFERENCE_LENGTH,
    MAX_SKU_LENGTH,
    USUAL_REASONS,
)
from rest_shim.rendering import ON_ERROR, RESERVATION_STATUSES, STATUSES, WAREHOUSE_TYPES
from rest_shim.routes import BULK_ITEM, TRANSFER_LINE

Json = dict[str, Any]
Refusals = tuple[type[InventoryError], ...]

STOCK_RULES: Final[Refusals] = (
    InventoryNotFound,
    WarehouseNotFound,
    ReadonlyWarehouse,
    NegativeQuantity,
    WarehouseInactive,
    SkuArchived,
    StaleVersion,
)

RESERVING_RULES: Final[Refusals] = (
    InventoryNotFound,
    WarehouseNotFound,
    ReadonlyWarehouse,
    WarehouseInactive,
    SkuArchived,
    InsufficientStock,
    OversellNotPermitted,
)
ENDING_RULES: Final[Refusals] = (ReservationNotFound, ReservationEnded)

ABOUT: Final = """\
Reads and updates the inventory levels of a tenant's SKUs across its warehouses.

Every request carries a token, `Authorization: Bearer TOKEN`, which decides the tenant. Reading \
needs the scope `inventory:read` or `inventory:write`, writing needs `inventory:write`, and \
`inventory:admin` implies both.

Every GET route answers HEAD too. Query parameters and body fields that are not described are \
refused; clients should ignore keys of answers that they do not know. A key that has nothing to \
say, such as `note`, is left out and never null. Timestamps are UTC with milliseconds.

What this service adds to the first published API is marked "An addition".
"""
TAGS: Final = {
    "Inventory": "What there is of each SKU, and setting it.",
    "Warehouses": "The places that hold stock.",
    "Reservations": "Additions: stock that is held for somebody, until it is taken or given back.",
    "Adjustments": "The ledger: every change of what a warehouse holds, append-only.",
}


def ref(place: str) -> Json:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{place}"}


def text(description: str, **more: object) -> Json:
    """Return the schema of a string."""
    return {"type": "string", "description": description, **more}


def whole_number(description: str, **more: object) -> Json:
    """Return the schema of a whole number wider than 32 bits."""
    return {"type": "integer", "format": "int64", "description": description, **more}


def quantity(description: str) -> Json:
    """Return the schema of a stored quantity."""
    return whole_number(description, minimum=0, maximum=MAX_QUANTITY)


def record(properties: Mapping[str, Json], *, optional: Iterable[str] = ()) -> Json:
    """Return the schema of an object of an answer."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": dict(properties)}


def list_of(name: str) -> Json:
    """Return the schema of a list of components."""
    return {"type": "array", "items": ref(f"schemas/{name}")}


SKU: Final = text(
    "The code of the SKU: letters, digits, space and `._:/+-`, a letter or digit first, in NFC.",
    minLength=1,
    maxLength=MAX_SKU_LENGTH,
)
WAREHOUSE_ID: Final = text("The id of the warehouse, `wh_..`.")
REASON: Final = text(
    f"Why, in a word of your own. Usual ones: {', '.join(f'`{word}`' for word in USUAL_REASONS)}.",
    pattern="^[a-z][a-z0-9_]{0,63}$",
)
IN_PATH: Final[Mapping[str, Json]] = {
    "sku": {
        "description": "The code of the SKU, percent-encoded: `AB/12` is `AB%2F12`.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_SKU_LENGTH},
        "example": "SKU-001",
    },
    "reservation_id": {
        "description": "The id of the reservation, `rsv_..`.",
        "schema": {"type": "string", "minLength": 1},
        "example": "rsv_01HXAAAAAAAAAAAAAAAAAAAAAA",
    },
}
INSTANT: Final = {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}
LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}
STATUS: Final = {"type": "string", "enum": [*STATUSES]}

# Query parameters and request headers, by the names that the routes know them by.
PARAMETERS: Final[Mapping[str, Json]] = {
    "limit": {"description": "Results per page.", "schema": {**LIMIT, "default": DEFAULT_PAGE}},
    "cursor": {
        "description": "Where the page begins: the `nextCursor` of the page before, asked for "
        "with the same filters.",
        "schema": {"type": "string", "pattern": "^cursor_"},
    },
    "status": {"description": "Only SKUs of this status.", "schema": STATUS},
    "warehouse_id": {
        "description": "Only this warehouse (its id, `wh_..`).",
        "schema": {"type": "string"},
    },
    "sku": {"description": "Only the SKU of this code.", "schema": {"type": "string"}},
    "start_date": {
        "description": "Only what happened at or after this: a date (UTC), or an RFC 3339 "
        "timestamp.",
        "schema": INSTANT,
    },
    "end_date": {
        "description": "Only what happened at or before this: a date (UTC), that day included, "
        "or an RFC 3339 timestamp.",
        "schema": INSTANT,
    },
    "reason": {
        "description": "Only adjustments with this reason.",
        "schema": {"type": "string", "pattern": REASON["pattern"]},
    },
    "reference": {
        "description": "Only those with this reference.",
        "schema": {"type": "string"},
    },
    "dry_run": {
        "description": "An addition. `true`: check everything and answer as if, but write "
        "nothing. The ids in the answer are then nobody's.",
        "schema": {"type": "boolean", "default": False},
    },
    "idempotency-key": {
        "description": "An addition. A key of your choice, such as a UUID, in visible ASCII. The "
        "same request sent again with it within 24 hours has no second effect and gets the same "
        "answer.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
    "if-match": {
        "description": "An addition. The `ETag` that the record must still have (several are "
        "separated by commas, `*` stands for any); else 412, and nothing is changed.",
        "schema": {"type": "string"},
    },
    "if-none-match": {
        "description": "An addition. The `ETag` of the record that you have: while it is the "
        "same, the answer is 304 without a body.",
        "schema": {"type": "string"},
    },
}
# Fields of request bodies. Those of OPTIONAL may be left out.
FIELDS: Final[Mapping[str, Json]] = {
    "sku": SKU,
    "warehouse_id": text(
        "The id of the warehouse, `wh_..`. A SKU that has no stock level there yet gets one."
    ),
    "quantity": quantity(
        'The new `on_hand`: a JSON integer, not `5.0`, not `"5"`. It may be below `reserved`: a '
        "count is the truth. A negative one is refused as NEGATIVE_QUANTITY."
    ),
    "delta": whole_number(
        "An addition. What is added to `on_hand`, or taken from it if negative. What would leave "
        "less than 0 is refused as NEGATIVE_QUANTITY.",
        minimum=-MAX_QUANTITY,
        maximum=MAX_QUANTITY,
    ),
    "reason": REASON,
    "note": {
        "type": ["string", "null"],
        "maxLength": MAX_NOTE_LENGTH,
        "pattern": "^[^\\u0000]*$",
        "description": "Why, in a sentence.",
    },
    "reference": {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": MAX_REFERENCE_LENGTH,
        "pattern": "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$",
        "description": "An addition. What you call the order, delivery or count that it belongs "
        "to.",
    },
    "expires_in": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_HOLD,
        "default": DEFAULT_HOLD,
        "description": "When it ends by itself, in seconds from now.",
    },
    "allow_oversell": {
        "type": "boolean",
        "default": False,
        "description": "Whether more than is available may be reserved, if the tenant permits it.",
    },
    "expected_quantity": {
        **quantity("An addition. What `on_hand` must be now; else STALE_VERSION."),
        "type": ["integer", "null"],
    },
    "from_warehouse_id": text("The id of the warehouse that gives, `wh_..`."),
    "to_warehouse_id": text("The id of the warehouse that takes, `wh_..`."),
    "lines": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_BULK_UPDATES,
        "items": ref("schemas/TransferLine"),
        "description": "What to move, each for another SKU.",
    },
    "updates": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_BULK_UPDATES,
        "items": ref("schemas/BulkItem"),
        "description": "What to set or adjust, each for another stock level (SKU and warehouse).",
    },
    "on_error": text(
        "An addition. `abort`: if one update is refused, nothing is changed. `continue`: the "
        "others are made.",
        enum=[*ON_ERROR],
        default="abort",
    ),
}
OPTIONAL: Final = {"note", "reference", "expected_quantity", "on_error"}
LINE_QUANTITY: Final = whole_number(
    "How many are moved, up to what the first warehouse has.", minimum=1, maximum=MAX_QUANTITY
)


HELD_LINES: Final[Json] = {
    **FIELDS["lines"],
    "items": ref("schemas/ReservationLineInput"),
    "description": "Stock levels and how many of each; lines for the same one are summed.",
}


def body(
    names: Iterable[str],
    *,
    optional: Iterable[str] = OPTIONAL,
    others: Mapping[str, Json] | None = None,
) -> Json:
    """Return the schema of a request's object, which is closed."""
    fields = {**FIELDS, **(others or {})}
    properties = {name: fields[name] for name in names}
    return {**record(properties, optional=optional), "additionalProperties": False}


LEVEL: Final = record(
    {
        "warehouse_id": WAREHOUSE_ID,
        "name": text("The name of the warehouse."),
        "on_hand": quantity("What is there."),
        "reserved": whole_number("What of it is reserved.", minimum=0),
        "available": whole_number(
            "`on_hand` - `reserved` - the level's safety stock; negative when oversold or eating "
            "into the safety stock."
        ),
        "type": text(
            "Who runs the warehouse; left out for your own.",
            enum=[name for name in WAREHOUSE_TYPES.values() if name != "own"],
        ),
    },
    optional=["type"],
)
RECORD: Final = record(
    {
        "sku": SKU,
        "title": text("What it is."),
        "total_on_hand": whole_number("The sum over `warehouses`.", minimum=0),
        "total_reserved": whole_number("The sum over `warehouses`.", minimum=0),
        "total_available": whole_number("The sum over `warehouses`; may be negative."),
        "safety_stock": whole_number("What shall stay in stock, in all.", minimum=0),
        "status": {
            **STATUS,
            "description": "With sellable = `total_on_hand` - `total_reserved`: `out_of_stock` if "
            "it is <= 0, `critical` if <= `safety_stock`, `low` if <= twice that, else `normal`.",
        },
        "warehouses": list_of("StockLevel"),
    }
)
WAREHOUSE: Final = record(
    {
        "id": WAREHOUSE_ID,
        "name": text("What people call it."),
        "address": text("Where it is; left out when not known."),
        "type": text(
            "Who runs it. FBA and FBS warehouses are run by a marketplace and take no stock "
            "writes.",
            enum=[*WAREHOUSE_TYPES.values()],
        ),
        "marketplace": text("The marketplace that runs it; left out when there is none."),
        "is_active": {
            "type": "boolean",
            "description": "An inactive warehouse counts in totals and can only be emptied.",
        },
        "is_readonly": {
            "const": True,
            "description": "Stock writes are refused; left out when they are not.",
        },
    },
    optional=["address", "marketplace", "is_readonly"],
)
TIMESTAMP: Final = {
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
}
ADJUSTMENT: Final = record(
    {
        "id": text("The id of the adjustment.", pattern="^adj_"),
        "sku": SKU,
        "warehouse_id": WAREHOUSE_ID,
        "before_quantity": quantity("`on_hand` before."),
        "after_quantity": quantity("`on_hand` after."),
        "delta": whole_number("The change: after minus before. A count may change nothing."),
        "reason": REASON,
        "note": text("Why, in a sentence; left out when there is none.", maxLength=MAX_NOTE_LENGTH),
        "reference": text(
            "An addition. What the caller calls the order, delivery or count that it belongs to; "
            "left out when there is none.",
            maxLength=MAX_REFERENCE_LENGTH,
        ),
        "created_by": text("The e-mail address of who did it."),
        "created_at": text("When, in UTC.", **TIMESTAMP),
    },
    optional=["note", "reference"],
)
RESERVATION_RECORD: Final[Mapping[str, Json]] = {
    "id": text("The id of the reservation.", pattern="^rsv_"),
    "status": text(
        "`open` while it holds stock; else how it ended, once.", enum=[*RESERVATION_STATUSES]
    ),
    "reference": text("What the caller calls the order that it is for; left out if none."),
    "note": text("Why, in a sentence; left out when there is none.", maxLength=MAX_NOTE_LENGTH),
    "created_by": text("The e-mail address of who reserved."),
    "created_at": text("When, in UTC.", **TIMESTAMP),
    "expires_at": text(
        "When it ends by itself, in UTC; left out if it is held until somebody ends it.",
        **TIMESTAMP,
    ),
    "ended_at": text("When it ended, in UTC; left out while it is open.", **TIMESTAMP),
    "lines": list_of("ReservationLine"),
}
MAY_MISS: Final = ("reference", "note", "expires_at", "ended_at")
RESERVATION_LINE: Final = record(
    {
        "sku": SKU,
        "warehouse_id": WAREHOUSE_ID,
        "quantity": quantity("What was reserved."),
        "held": quantity("What is reserved now: all of it until it ends, then none."),
        "committed": quantity("What was taken from `on_hand` when it was committed."),
    }
)
PAGE: Final = record(
    {
        "total": {
            "type": "integer",
            "minimum": 0,
            "description": "How many there are on all pages, exactly.",
        },
        "limit": {**LIMIT, "description": "Results per page."},
        "nextCursor": {
            "type": ["string", "null"],
            "description": "The `cursor` of the next page; null on the last.",
        },
    }
)
UPDATE_OF_BULK: Final[Mapping[str, Json]] = {
    "index": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_BULK_UPDATES - 1,
        "description": "The position of the update in the request.",
    },
    "sku": text("The `sku` of the update, as it was sent."),
    "warehouse_id": text("The `warehouse_id` of the update, as it was sent."),
}
UPDATED: Final = record(
    {
        **UPDATE_OF_BULK,
        "status": {"const": "updated"},
        "before_quantity": quantity("`on_hand` before."),
        "after_quantity": quantity("`on_hand` after."),
        "delta": whole_number("The change: after minus before."),
        "adjustment_id": text("The id of the adjustment written.", pattern="^adj_"),
    }
)
FAILED: Final = record(
    {
        **UPDATE_OF_BULK,
        "status": {"const": "failed"},
        "error": record(
            {"code": ref("schemas/ErrorCode"), "message": text("What is wrong, for people.")}
        ),
    }
)
ERROR: Final = record(
    {
        "error": record(
            {
                "code": ref("schemas/ErrorCode"),
                "message": text("What is wrong, for people."),
                "details": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "object"},
                    "description": "Facts for programs; left out when there are none. A "
                    "VALIDATION_ERROR names each `field` with a `message`; a refused bulk names "
                    "each update that failed, as in its answer.",
                },
                "request_id": text("The same as in the header; the service's log has it too."),
            },
            optional=["details"],
        )
    }
)
TRANSFER: Final = record(
    {
        "transfer_id": text("Names the transfer.", pattern="^trf_"),
        "lines": {
            "type": "array",
            "items": record(
                {
                    "outgoing": ref("schemas/Adjustment"),
                    "incoming": ref("schemas/Adjustment"),
                }
            ),
            "description": "The two adjustments of each line, in the order of the request.",
        },
    }
)
SCHEMAS: Final[Mapping[str, Json]] = {
    "InventoryRecord": RECORD,
    "StockLevel": LEVEL,
    "Warehouse": WAREHOUSE,
    "Adjustment": ADJUSTMENT,
    "PageMeta": PAGE,
    "Transfer": TRANSFER,
    "Reservation": record(RESERVATION_RECORD, optional=MAY_MISS),
    "CommittedReservation": record(
        {**RESERVATION_RECORD, "adjustments": list_of("Adjustment")}, optional=MAY_MISS
    ),
    "ReservationLine": RESERVATION_LINE,
    "ReservationLineInput": {
        **body(TRANSFER_LINE),
        "required": ["sku", "warehouse_id", "quantity"],
        "properties": {
            "sku": SKU,
            "warehouse_id": WAREHOUSE_ID,
            "quantity": whole_number("How many.", minimum=1, maximum=MAX_QUANTITY),
        },
    },
    "TransferLine": {
        **body(TRANSFER_LINE),
        "properties": {"sku": SKU, "quantity": LINE_QUANTITY},
    },
    "BulkItem": {
        **body(BULK_ITEM, optional=(*OPTIONAL, "quantity", "delta")),
        "oneOf": [{"required": ["quantity"]}, {"required": ["delta"]}],
    },
    "BulkResult": {"oneOf": [ref("schemas/BulkUpdated"), ref("schemas/BulkFailed")]},
    "BulkUpdated": UPDATED,
    "BulkFailed": FAILED,
    "Error": ERROR,
}
HEADERS: Final[Mapping[str, Json]] = {
    REQUEST_ID_HEADER: {
        "required": True,
        "description": "Names the request in the service's log. A request may bring its own: up "
        "to 64 letters, digits and `._-`.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "ETag": {
        "required": True,
        "description": "An addition. The version of the record, for `If-Match` and "
        "`If-None-Match`.",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Idempotent-Replayed": {
        "description": "An addition. Present if this is the answer that an earlier request with "
        "the same `Idempotency-Key` got.",
        "schema": {"const": "true"},
    },
    "WWW-Authenticate": {
        "required": True,
        "description": "How to authenticate.",
        "schema": {"const": "Bearer"},
    },
    "Allow": {
        "required": True,
        "description": "The methods that the path has.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "After how many seconds to try again, where that may help.",
        "schema": {"type": "integer", "minimum": 1},
    },
}

WAREHOUSE_A: Final = "wh_01HXAAAAAAAAAAAAAAAAAAAAAA"
FBA_EU: Final = "wh_01HYAAAAAAAAAAAAAAAAAAAAAA"
NORTH: Final = "wh_01J0AAAAAAAAAAAAAAAAAAAAAA"


def example_record(on_hand: int) -> Json:
    """Return the published example, with so many pieces in Warehouse A."""
    return {
        "sku": "SKU-001",
        "title": "Blue Widget 500ml",
        "total_on_hand": on_hand + 137,
        "total_reserved": 23,
        "total_available": on_hand + 99,
        "safety_stock": 15,
        "status": "normal",
        "warehouses": [
            {
                "warehouse_id": WAREHOUSE_A,
                "name": "Warehouse A",
                "on_hand": on_hand,
                "reserved": 18,
                "available": on_hand - 33,
            },
            {
                "warehouse_id": FBA_EU,
                "name": "FBA EU",
                "on_hand": 137,
                "reserved": 5,
                "available": 132,
                "type": "FBA",
            },
        ],
    }


EXAMPLE_UPDATE: Final = {
    "warehouse_id": WAREHOUSE_A,
    "quantity": 500,
    "reason": "supplier_receipt",
    "note": "PO-2026-0312 received",
}
EXAMPLE_DELTA: Final = {
    "warehouse_id": WAREHOUSE_A,
    "delta": 50,
    "reason": "supplier_receipt",
    "note": "PO-2026-0312 received",
}
EXAMPLE_BULK: Final = {
    "updates": [
        {
            "sku": "SKU-001",
            "warehouse_id": WAREHOUSE_A,
            "quantity": 500,
            "reason": "supplier_receipt",
        },
        {"sku": "SKU-002", "warehouse_id": WAREHOUSE_A, "quantity": 200, "reason": "cycle_count"},
    ]
}
EXAMPLE_BULK_ANSWER: Final = {
    "data": [
        {
            "index": 0,
            "sku": "SKU-001",
            "warehouse_id": WAREHOUSE_A,
            "status": "updated",
            "before_quantity": 350,
            "after_quantity": 500,
            "delta": 150,
            "adjustment_id": "adj_01HXAAAAAAAAAAAAAAAAAAAAAA",
        },
        {
            "index": 1,
            "sku": "SKU-002",
            "warehouse_id": WAREHOUSE_A,
            "status": "updated",
            "before_quantity": 21,
            "after_quantity": 200,
            "delta": 179,
            "adjustment_id": "adj_01HXBBBBBBBBBBBBBBBBBBBBBB",
        },
    ],
    "meta": {"total": 2, "succeeded": 2, "failed": 0},
}
EXAMPLE_WAREHOUSES: Final = {
    "data": [
        {
            "id": WAREHOUSE_A,
            "name": "Warehouse A",
            "address": "Industriestraße 1, 12345 Berlin, DE",
            "type": "own",
            "is_active": True,
        },
        {
            "id": FBA_EU,
            "name": "FBA EU",
            "type": "FBA",
            "marketplace": "amazon_eu",
            "is_active": True,
            "is_readonly": True,
        },
    ]
}
EXAMPLE_ADJUSTMENT: Final = {
    "id": "adj_01HXAAAAAAAAAAAAAAAAAAAAAA",
    "sku": "SKU-001",
    "warehouse_id": WAREHOUSE_A,
    "before_quantity": 450,
    "after_quantity": 500,
    "delta": 50,
    "reason": "supplier_receipt",
    "note": "PO-2026-0312 received",
    "created_by": "[email protected]",
    "created_at": "2026-03-12T14:00:00.000Z",
}


EXAMPLE_OUTGOING: Final = {
    "id": "adj_01HXAAAAAAAAAAAAAAAAAAAAAA",
    "sku": "SKU-001",
    "warehouse_id": WAREHOUSE_A,
    "before_quantity": 350,
    "after_quantity": 330,
    "delta": -20,
    "reason": "transfer",
    "created_by": "[email protected]",
    "created_at": "2026-03-12T14:00:00.000Z",
}


EXAMPLE_RESERVATION: Final = {
    "id": "rsv_01HXAAAAAAAAAAAAAAAAAAAAAA",
    "status": "open",
    "reference": "order-1001",
    "created_by": "[email protected]",
    "created_at": "2026-03-12T14:00:00.000Z",
    "expires_at": "2026-03-12T14:15:00.000Z",
    "lines": [
        {
            "sku": "SKU-001",
            "warehouse_id": WAREHOUSE_A,
            "quantity": 2,
            "held": 2,
            "committed": 0,
        }
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the table of routes does not say of an operation."""

    tag: str
    summary: str
    description: str
    answer: Json
    example: Json
    body_example: Json | None = None
    headers: tuple[str, ...] = ()
    refusals: Refusals = ()
    # Fields of the body that may be left out here.
    optional: tuple[str, ...] = ()
    # Fields of the body that differ from what FIELDS says.
    fields: Mapping[str, Json] = field(default_factory=dict)
    # Parameters that differ from what PARAMETERS says.
    parameters: Mapping[str, Json] = field(default_factory=dict)


WORDS: Final[Mapping[str, Words]] = {
    "ListInventory": Words(
        tag="Inventory",
        summary="List inventory",
        description="SKUs with their stock, ordered by code, page by page. Filters combine; an "
        "unknown `sku` gives an empty list.",
        answer=record({"data": list_of("InventoryRecord"), "meta": ref("schemas/PageMeta")}),
        example={
            "data": [example_record(350)],
            "meta": {"total": 1248, "limit": DEFAULT_PAGE, "nextCursor": "cursor_abc123"},
        },
        refusals=(WarehouseNotFound,),
        parameters={
            "warehouse_id": {
                "description": "Only SKUs with a stock level in this warehouse (its id, `wh_..`), "
                "as if there were no other: `warehouses`, totals, safety stock and status are of "
                "it alone.",
                "schema": {"type": "string"},
            }
        },
    ),
    "GetInventory": Words(
        tag="Inventory",
        summary="Get inventory for a SKU",
        description="One SKU with its stock in every warehouse.",
        answer=record({"data": ref("schemas/InventoryRecord")}),
        example={"data": example_record(350)},
        headers=("ETag",),
        refusals=(InventoryNotFound, MethodNotAllowed),
    ),
    "SetStock": Words(
        tag="Inventory",
        summary="Set the stock of a SKU in a warehouse",
        description="Sets `on_hand`, writes one adjustment, also when nothing changes (a count is "
        "a fact), and answers the whole record after it.",
        answer=record({"data": ref("schemas/InventoryRecord")}),
        example={"data": example_record(500)},
        body_example=EXAMPLE_UPDATE,
        headers=("ETag", "Idempotent-Replayed"),
        refusals=(*STOCK_RULES, MethodNotAllowed),
    ),
    "AdjustStock": Words(
        tag="Adjustments",
        summary="Adjust the stock of a SKU in a warehouse",
        description="An addition. Adds to `on_hand`, or takes from it, and answers the adjustment "
        "written. Unlike setting, it needs no knowledge of what there is.",
        answer=record({"data": ref("schemas/Adjustment")}),
        example={"data": EXAMPLE_ADJUSTMENT},
        body_example=EXAMPLE_DELTA,
        headers=("ETag", "Idempotent-Replayed"),
        refusals=STOCK_RULES,
    ),
    "TransferStock": Words(
        tag="Inventory",
        summary="Move stock from one warehouse to another",
        description=f"An addition. Up to {MAX_BULK_UPDATES} SKUs, all or none. Each line writes "
        "two adjustments that sum to nothing. A refused transfer answers the code and status of "
        "its first failing line, and `details` name every failing one.",
        answer=record({"data": ref("schemas/Transfer")}),
        example={
            "data": {
                "transfer_id": "trf_01HXAAAAAAAAAAAAAAAAAAAAAA",
                "lines": [
                    {
                        "outgoing": EXAMPLE_OUTGOING,
                        "incoming": {
                            **EXAMPLE_OUTGOING,
                            "id": "adj_01HXBBBBBBBBBBBBBBBBBBBBBB",
                            "warehouse_id": NORTH,
                            "before_quantity": 0,
                            "after_quantity": 20,
                            "delta": 20,
                        },
                    }
                ],
            }
        },
        body_example={
            "from_warehouse_id": WAREHOUSE_A,
            "to_warehouse_id": NORTH,
            "lines": [{"sku": "SKU-001", "quantity": 20}],
        },
        headers=("Idempotent-Replayed",),
        refusals=STOCK_RULES,
        optional=("reason",),
    ),
    "BulkSetStock": Words(
        tag="Inventory",
        summary="Set many stock levels at once",
        description=f"Up to {MAX_BULK_UPDATES} updates in one transaction: all or nothing, unless "
        "`on_error` says otherwise. A refused bulk answers the code and status of its first "
        "failing update, and `details` name every failing one.",
        answer=record(
            {
                "data": list_of("BulkResult"),
                "meta": record(
                    {
                        name: {"type": "integer", "minimum": 0, "description": description}
                        for name, description in {
                            "total": "How many updates there were.",
                            "succeeded": "How many were made.",
                            "failed": "How many were refused.",
                        }.items()
                    }
                ),
            }
        ),
        example=EXAMPLE_BULK_ANSWER,
        body_example=EXAMPLE_BULK,
        headers=("Idempotent-Replayed",),
        refusals=STOCK_RULES,
    ),
    "ListReservations": Words(
        tag="Reservations",
        summary="List reservations",
        description="An addition. Newest first, those that have ended too, page by page.",
        answer=record({"data": list_of("Reservation"), "meta": ref("schemas/PageMeta")}),
        example={
            "data": [EXAMPLE_RESERVATION],
            "meta": {"total": 1, "limit": DEFAULT_PAGE, "nextCursor": None},
        },
        parameters={
            "status": {
                "description": "Only those that stand so.",
                "schema": {"type": "string", "enum": [*RESERVATION_STATUSES]},
            }
        },
    ),
    "GetReservation": Words(
        tag="Reservations",
        summary="Get a reservation",
        description="An addition. One reservation with its lines.",
        answer=record({"data": ref("schemas/Reservation")}),
        example={"data": EXAMPLE_RESERVATION},
        refusals=(ReservationNotFound,),
    ),
    "ReserveStock": Words(
        tag="Reservations",
        summary="Reserve stock",
        description=f"An addition. Holds up to {MAX_BULK_UPDATES} lines, all or none, and never "
        "more than is available unless that is allowed. It ends once: it is committed, released, "
        "or expires by itself.",
        answer=record({"data": ref("schemas/Reservation")}),
        example={"data": EXAMPLE_RESERVATION},
        body_example={
            "lines": [{"sku": "SKU-001", "warehouse_id": WAREHOUSE_A, "quantity": 2}],
            "reference": "order-1001",
        },
        headers=("Idempotent-Replayed",),
        refusals=RESERVING_RULES,
        optional=("expires_in", "allow_oversell"),
        fields={"lines": HELD_LINES},
    ),
    "CommitReservation": Words(
        tag="Reservations",
        summary="Commit a reservation",
        description="An addition. Takes what is held, or the `lines` of it, from `on_hand`, writes "
        "an adjustment for each, and ends the reservation: what is not taken is free again.",
        answer=record({"data": ref("schemas/CommittedReservation")}),
        example={
            "data": {
                **EXAMPLE_RESERVATION,
                "status": "committed",
                "ended_at": "2026-03-12T14:05:00.000Z",
                "lines": [
                    {
                        "sku": "SKU-001",
                        "warehouse_id": WAREHOUSE_A,
                        "quantity": 2,
                        "held": 0,
                        "committed": 2,
                    }
                ],
                "adjustments": [
                    {
                        **EXAMPLE_OUTGOING,
                        "after_quantity": 348,
                        "delta": -2,
                        "reason": "sale",
                        "reference": "order-1001",
                    }
                ],
            }
        },
        body_example={"reason": "sale"},
        headers=("Idempotent-Replayed",),
        refusals=(*ENDING_RULES, ReadonlyWarehouse, NegativeQuantity),
        optional=("lines", "reason"),
        fields={"lines": HELD_LINES},
    ),
    "ReleaseReservation": Words(
        tag="Reservations",
        summary="Release a reservation",
        description="An addition. Gives back what is held, and ends the reservation.",
        answer=record({"data": ref("schemas/Reservation")}),
        example={
            "data": {
                **EXAMPLE_RESERVATION,
                "status": "released",
                "ended_at": "2026-03-12T14:05:00.000Z",
                "lines": [
                    {
                        "sku": "SKU-001",
                        "warehouse_id": WAREHOUSE_A,
                        "quantity": 2,
                        "held": 0,
                        "committed": 0,
                    }
                ],
            }
        },
        body_example={},
        headers=("Idempotent-Replayed",),
        refusals=ENDING_RULES,
    ),
    "ListWarehouses": Words(
        tag="Warehouses",
        summary="List warehouses",
        description="All warehouses of the tenant, inactive ones too.",
        answer=record({"data": list_of("Warehouse")}),
        example=EXAMPLE_WAREHOUSES,
    ),
    "ListAdjustments": Words(
        tag="Adjustments",
        summary="Get the adjustment history of a SKU",
        description="Newest first. Without `limit` and `cursor` the whole history is streamed, "
        "without `meta`; with one of them it comes in pages, and `meta` is there.",
        answer=record(
            {"data": list_of("Adjustment"), "meta": ref("schemas/PageMeta")}, optional=["meta"]
        ),
        example={"data": [EXAMPLE_ADJUSTMENT]},
        refusals=(InventoryNotFound, WarehouseNotFound),
        parameters={
            "limit": {
                "description": "An addition: results per page. Without it and `cursor`, all; with "
                f"`cursor` alone, {DEFAULT_PAGE}.",
                "schema": LIMIT,
            },
            "cursor": {
                **PARAMETERS["cursor"],
                "description": f"An addition. {PARAMETERS['cursor']['description']}",
            },
        },
    ),
}
