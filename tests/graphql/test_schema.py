"""The schema: descriptions, published types, and the exported file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    build_schema,
    get_named_type,
    introspection_types,
    is_non_null_type,
    print_ast,
    specified_scalar_types,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.errors import InventoryError
from app.graphql.schema.schema import schema

SDL: Final = schema.as_str()
SCHEMA: Final = build_schema(SDL)
BUILT_IN: Final = introspection_types.keys() | specified_scalar_types.keys()
TYPES: Final = {name: type_ for name, type_ in SCHEMA.type_map.items() if name not in BUILT_IN}
OBJECTS: Final = {
    name: type_
    for name, type_ in TYPES.items()
    if isinstance(type_, (GraphQLObjectType, GraphQLInterfaceType))
}
CONNECTIONS: Final = [name for name in OBJECTS if name.endswith("Connection")]
PAGE: Final = {"first": "Int! = 50", "after": "String = null"}

# The published schema. Additions are allowed; changes are not.
PUBLISHED: Final[dict[str, dict[str, str]]] = {
    "Query": {
        "skus": "SkuConnection",
        "adjustments": "AdjustmentConnection",
        "sku": "Sku",
        "warehouses": "[Warehouse!]",
        "warehouse": "Warehouse",
        "node": "Node",
        "nodes": "[Node]",
        "skusByCode": "[Sku]",
    },
    "Mutation": {"setStock": "SetStockPayload", "bulkSetStock": "BulkSetStockPayload"},
    "Node": {"id": "ID!"},
    "Sku": {
        "id": "ID!",
        "sku": "String!",
        "title": "String!",
        "totalOnHand": "Quantity!",
        "totalReserved": "Quantity!",
        "totalAvailable": "Quantity!",
        "safetyStock": "Quantity!",
        "status": "SkuStatus!",
        "stock": "[StockLevel!]!",
        "adjustments": "AdjustmentConnection",
        "stockHistory": "[StockPeriod!]",
    },
    "StockLevel": {
        "id": "ID!",
        "sku": "Sku",
        "warehouse": "Warehouse!",
        "onHand": "Quantity!",
        "reserved": "Quantity!",
        "safetyStock": "Quantity!",
        "available": "Quantity!",
        "version": "Quantity!",
        "adjustments": "AdjustmentConnection",
    },
    "Warehouse": {
        "id": "ID!",
        "name": "String!",
        "type": "WarehouseType!",
        "address": "String",
        "marketplace": "String",
        "isActive": "Boolean!",
        "isReadonly": "Boolean!",
        "stock": "StockLevelConnection",
        "adjustments": "AdjustmentConnection",
    },
    "Adjustment": {
        "id": "ID!",
        "sku": "Sku",
        "warehouse": "Warehouse",
        "beforeQuantity": "Quantity!",
        "afterQuantity": "Quantity!",
        "delta": "Quantity!",
        "reason": "String!",
        "note": "String",
        "createdBy": "String!",
        "createdAt": "DateTime!",
    },
    "AdjustmentTotals": {
        "entries": "Quantity!",
        "increase": "Quantity!",
        "decrease": "Quantity!",
        "netChange": "Quantity!",
    },
    "StockPeriod": {
        "start": "DateTime!",
        "opening": "Quantity!",
        "increase": "Quantity!",
        "decrease": "Quantity!",
        "closing": "Quantity!",
    },
    "PageInfo": {
        "hasNextPage": "Boolean!",
        "hasPreviousPage": "Boolean!",
        "startCursor": "String",
        "endCursor": "String",
    },
    "SetStockPayload": {
        "sku": "Sku!",
        "stockLevel": "StockLevel!",
        "adjustment": "Adjustment",
    },
    "BulkSetStockPayload": {
        "results": "[BulkResult!]!",
        "total": "Int!",
        "succeeded": "Int!",
        "failed": "Int!",
        "skus": "[Sku!]!",
    },
    "BulkResult": {
        "index": "Int!",
        "sku": "String!",
        "warehouseId": "ID!",
        "status": "BulkResultStatus!",
        "adjustment": "Adjustment",
        "error": "BulkError",
    },
}
PUBLISHED_INPUTS: Final[dict[str, dict[str, str]]] = {
    "SetStockInput": {
        "sku": "String!",
        "warehouseId": "ID!",
        "quantity": "Quantity!",
        "reason": "String!",
        "note": "String",
    },
    "StockUpdateInput": {
        "sku": "String!",
        "warehouseId": "ID!",
        "change": "QuantityChangeInput!",
        "reason": "String!",
        "note": "String",
    },
    "BulkSetStockInput": {"updates": "[StockUpdateInput!]!", "onError": "BulkOnError!"},
    "SkuFilterInput": {"status": "SkuStatus", "warehouseId": "ID", "sku": "String"},
    "AdjustmentFilterInput": {
        "warehouseId": "ID",
        "reason": "String",
        "startDate": "DateOrDateTime",
        "endDate": "DateOrDateTime",
    },
    "LedgerFilterInput": {
        "sku": "String",
        "warehouseId": "ID",
        "reason": "String",
        "startDate": "DateOrDateTime",
        "endDate": "DateOrDateTime",
    },
}
PUBLISHED_ENUMS: Final = {
    "SkuStatus": {"NORMAL", "LOW", "CRITICAL", "OUT_OF_STOCK"},
    "WarehouseType": {"OWN", "FBA", "FBS", "THIRD_PARTY"},
    "SkuOrder": {
        f"{name}_{way}" for name in ("SKU", "AVAILABLE", "UPDATED") for way in ("ASC", "DESC")
    },
    "BulkOnError": {"ABORT", "CONTINUE"},
    "BulkResultStatus": {"UPDATED", "UNCHANGED", "FAILED"},
    "AdjustmentSign": {"INCREASE", "DECREASE", "UNCHANGED"},
    "StockInterval": {"HOUR", "DAY"},
}
ARGUMENTS: Final[dict[tuple[str, str], dict[str, str]]] = {
    ("Query", "skus"): {"filter": "SkuFilterInput", "orderBy": "SkuOrder!"},
    ("Query", "adjustments"): {"filter": "LedgerFilterInput"},
    ("Query", "sku"): {"sku": "String!"},
    ("Query", "warehouse"): {"id": "ID!"},
    ("Query", "node"): {"id": "ID!"},
    ("Query", "nodes"): {"ids": "[ID!]!"},
    ("Query", "skusByCode"): {"codes": "[String!]!"},
    ("Sku", "adjustments"): {"filter": "AdjustmentFilterInput"},
    ("StockLevel", "adjustments"): {"filter": "AdjustmentFilterInput"},
    ("Sku", "stockHistory"): {
        "from": "DateOrDateTime!",
        "to": "DateOrDateTime!",
        "interval": "StockInterval!",
        "warehouseId": "ID",
        "timeZone": "TimeZone!",
    },
    ("Warehouse", "stock"): {"filter": "StockLevelFilterInput", "orderBy": "StockLevelOrder!"},
    ("Warehouse", "adjustments"): {"filter": "WarehouseAdjustmentFilterInput"},
    ("Mutation", "setStock"): {"input": "SetStockInput!"},
    ("Mutation", "bulkSetStock"): {"input": "BulkSetStockInput!"},
}


def codes_below(error: type[InventoryError]) -> Iterator[str]:
    """Every code of the error tree."""
    for below in error.__subclasses__():
        yield below.code
        yield from codes_below(below)


def descriptions(type_: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    """Every named element of a type with its description."""
    yield type_.name, type_.description
    if isinstance(type_, (GraphQLObjectType, GraphQLInterfaceType)):
        for name, field in type_.fields.items():
            yield f"{type_.name}.{name}", field.description
            for argument, each in field.args.items():
                yield f"{type_.name}.{name}({argument}:)", each.description
    elif isinstance(type_, GraphQLInputObjectType):
        for name, input_field in type_.fields.items():
            yield f"{type_.name}.{name}", input_field.description
    elif isinstance(type_, GraphQLEnumType):
        for name, value in type_.values.items():
            yield f"{type_.name}.{name}", value.description


ERROR_CODES: Final = frozenset(codes_below(InventoryError))


def signature(argument: GraphQLArgument) -> str:
    """Type and default of an argument, as in the SDL."""
    node = argument.ast_node
    assert node is not None
    default = "" if node.default_value is None else f" = {print_ast(node.default_value)}"
    return f"{print_ast(node.type)}{default}"


def fields_of(name: str) -> dict[str, GraphQLField]:
    fields: dict[str, GraphQLField] = OBJECTS[name].fields
    return fields


@pytest.mark.parametrize("name", TYPES)
def test_every_element_of_a_type_has_a_description(name: str) -> None:
    bare = [element for element, text in descriptions(TYPES[name]) if not (text or "").strip()]

    assert bare == []


def test_every_error_code_is_described() -> None:
    texts = " ".join(
        f"{element} {text}" for type_ in TYPES.values() for element, text in descriptions(type_)
    )
    known = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", texts))

    assert ERROR_CODES - known == set()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_type_keeps_its_fields(name: str) -> None:
    fields = {field: str(it.type) for field, it in fields_of(name).items()}

    assert {field: fields.get(field) for field in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED_INPUTS)
def test_a_published_input_keeps_its_fields(name: str) -> None:
    type_ = TYPES[name]
    assert isinstance(type_, GraphQLInputObjectType)
    fields = {field: str(it.type) for field, it in type_.fields.items()}

    published = PUBLISHED_INPUTS[name]
    assert {field: fields.get(field) for field in published} == published
    added = [it for field, it in type_.fields.items() if field not in published]
    assert all(not str(it.type).endswith("!") or it.default is not None for it in added)


@pytest.mark.parametrize("name", PUBLISHED_ENUMS)
def test_a_published_enum_keeps_its_values(name: str) -> None:
    type_ = TYPES[name]
    assert isinstance(type_, GraphQLEnumType)

    assert set(type_.values) == PUBLISHED_ENUMS[name]


@pytest.mark.parametrize(("type_", "field"), ARGUMENTS)
def test_a_published_field_keeps_its_arguments(type_: str, field: str) -> None:
    arguments = {name: str(it.type) for name, it in fields_of(type_)[field].args.items()}
    arguments = {name: it for name, it in arguments.items() if name not in PAGE}

    assert arguments == ARGUMENTS[type_, field]


def test_the_roots_are_query_mutation_and_subscription() -> None:
    assert SCHEMA.query_type is OBJECTS["Query"]
    assert SCHEMA.mutation_type is OBJECTS["Mutation"]
    assert SCHEMA.subscription_type is OBJECTS["Subscription"]


# A subscription has one root field, so its refusal takes nothing else with it.
@pytest.mark.parametrize("name", sorted(OBJECTS.keys() - {"Subscription"}))
def test_every_field_that_can_be_refused_is_nullable(name: str) -> None:
    # A field that reads or writes is a coroutine. Others have their value in a record.
    type_ = schema._schema.type_map[name]
    assert isinstance(type_, (GraphQLObjectType, GraphQLInterfaceType))
    resolvers = {
        field: each.extensions[GraphQLCoreConverter.DEFINITION_BACKREF].base_resolver
        for field, each in type_.fields.items()
    }
    refusable = {field for field, it in resolvers.items() if it is not None and it.is_async}

    assert {field for field in refusable if is_non_null_type(type_.fields[field].type)} == set()
    if name in {"Query", "Mutation"}:
        assert refusable == set(type_.fields)


def test_types_with_an_id_implement_node() -> None:
    nodes = {type_.name for type_ in SCHEMA.get_possible_types(OBJECTS["Node"])}  # type: ignore[arg-type]

    assert nodes == {"Adjustment", "Reservation", "Sku", "StockLevel", "Warehouse", "Webhook"}
    assert {name for name in OBJECTS if "id" in fields_of(name)} == {*nodes, "Node"}


def test_every_paged_list_has_a_connection_type() -> None:
    assert sorted(CONNECTIONS) == [
        "AdjustmentConnection",
        "ReservationConnection",
        "ReservationLineConnection",
        "SkuConnection",
        "StockLevelConnection",
        "WebhookAttemptConnection",
        "WebhookConnection",
    ]


@pytest.mark.parametrize("name", CONNECTIONS)
def test_connections_have_the_shape_of_relay(name: str) -> None:
    node = name.removesuffix("Connection")
    edge = f"{node}Edge"

    assert {field: str(it.type) for field, it in fields_of(name).items()} == {
        "edges": f"[{edge}!]!",
        "nodes": f"[{node}!]!",
        "pageInfo": "PageInfo!",
        "totalCount": "Int",
        "feedPosition": "Quantity",
        **({"totals": "AdjustmentTotals"} if node == "Adjustment" else {}),
        **({"held": "Quantity"} if node == "Reservation" else {}),
    }
    assert {field: str(it.type) for field, it in fields_of(edge).items()} == {
        "node": f"{node}!",
        "cursor": "String!",
    }


def test_every_field_that_is_a_connection_takes_a_page() -> None:
    paged = {
        (type_, name): field
        for type_ in OBJECTS
        for name, field in fields_of(type_).items()
        if get_named_type(field.type).name in CONNECTIONS
    }

    assert set(paged) == {
        ("Query", "skus"),
        ("Query", "adjustments"),
        ("Query", "reservations"),
        ("Query", "webhooks"),
        ("Query", "webhookAttempts"),
        ("StockLevel", "reservations"),
        ("Sku", "adjustments"),
        ("StockLevel", "adjustments"),
        ("Warehouse", "stock"),
        ("Warehouse", "adjustments"),
    }
    for field in paged.values():
        assert {name: signature(field.args[name]) for name in PAGE} == PAGE


def test_exported_schema_is_current() -> None:
    exported = Path(__file__).parents[2] / "schema.graphql"

    assert exported.read_text(encoding="utf-8") == f"{SDL}\n"
