"""One id is one object: every way to a node gives each of its fields the same value."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

from app.graphql.schema.schema import schema
from app.writes.webhooks import create_webhook
from tests.graphql.lists import Stocked
from tests.graphql.model import CODES

Composite = GraphQLObjectType | GraphQLInterfaceType
TYPES: Final = schema._schema.type_map
# Ways from a field: its arguments, with the names of values of the catalogue in braces.
ARGUMENTS: Final[Mapping[tuple[str, str], list[str]]] = {
    ("Query", "skus"): [
        "",
        '(filter: {warehouseId: "{one}"})',
        '(filter: {warehouseId: "{two}", status: LOW}, orderBy: SKU_DESC)',
        '(filter: {sku: "{code}"})',
        "(filter: {statusIn: [LOW, CRITICAL]}, orderBy: UPDATED_DESC)",
        '(filter: {codePrefix: "A", updatedSince: "2020-01-01"}, orderBy: AVAILABLE_ASC)',
    ],
    ("Query", "sku"): ['(sku: "{code}")'],
    ("Query", "warehouse"): ['(id: "{one}")'],
    ("Query", "skuByExternalId"): ['(externalId: {namespace: "erp", value: "{code}"})'],
    ("Query", "warehouseByExternalId"): ['(externalId: {namespace: "erp", value: "one"})'],
    ("Query", "availability"): ['(sku: "{code}")'],
    ("Query", "reservation"): ['(id: "{held}")'],
    ("Query", "node"): [
        '(id: "{one}")',
        '(id: "sku_{code}")',
        '(id: "level_{one}_{code}")',
        '(id: "{entry}")',
        '(id: "{held}")',
        '(id: "{hook}")',
    ],
    ("Query", "skusByCode"): ['(codes: ["{code}", "A"])'],
    ("Query", "nodes"): ['(ids: ["{two}", "sku_{code}", "level_{one}_{code}"])'],
    ("Query", "webhook"): ['(id: "{hook}")'],
    ("Sku", "stockLevel"): ['(warehouseId: "{one}")', '(warehouseId: "{two}")'],
    ("Sku", "stockAsOf"): ['(at: "2030-01-01")'],
    ("Sku", "adjustments"): ["(first: 3)", '(first: 2, filter: {warehouseId: "{two}"})'],
    ("Warehouse", "stock"): [
        "(first: 3)",
        "(first: 5, filter: {status: CRITICAL}, orderBy: SKU_DESC)",
    ],
    ("Warehouse", "adjustments"): ["(first: 2)"],
    ("StockLevel", "adjustments"): ["(first: 2)"],
    ("StockLevel", "reservations"): ["(first: 1)"],
}
# A series and the log of a webhook have no nodes.
IGNORED: Final = {("Sku", "stockHistory"), ("Query", "webhookAttempts")}
STEPS: Final = 2
IDENTIFY: Final = """
mutation ($sku: String!, $warehouse: ID!) {
  updateSku(input: {sku: $sku, externalIds: [{namespace: "erp", values: [$sku]}]}) { sku { id } }
  updateWarehouse(input: {id: $warehouse, externalIds: [{namespace: "erp", values: ["one"]}]}) {
    warehouse { id }
  }
}
"""


def ways(parent: Composite, steps: int) -> Iterator[str]:
    """Yield selections of a type that lead to nodes by up to `steps` fields."""
    if any(interface.name == "Node" for interface in parent.interfaces):
        yield f"{{ {seen(parent, 1)} }}"
    if not steps:
        return
    for name, field in parent.fields.items():
        target = get_named_type(field.type)
        if is_leaf_type(target) or (parent.name, name) in IGNORED:
            continue
        for arguments in arguments_of(parent, name, field):
            for selection in selections(target, steps - 1):
                yield f"{{ {name}{arguments} {selection} }}"


def selections(target: Any, steps: int) -> Iterator[str]:
    """Yield the ways from a field's type, through lists and interfaces."""
    if target.name.endswith("Connection"):
        node = get_named_type(target.fields["nodes"].type)
        yield from (f"{{ nodes {way} }}" for way in ways(node, steps))
    elif isinstance(target, GraphQLInterfaceType):
        for type_ in schema._schema.get_possible_types(target):
            yield from (f"{{ ... on {type_.name} {way} }}" for way in ways(type_, steps))
    elif target.name != "PageInfo":
        yield from ways(target, steps)


def arguments_of(parent: Composite, name: str, field: GraphQLField) -> list[str]:
    known = ARGUMENTS.get((parent.name, name))
    if known is None:
        assert not any(map(is_required_argument, field.args.values())), (parent.name, name)
        return [""]
    return known


def seen(type_: Composite, steps: int) -> str:
    """All fields of a node without required arguments, and those of its nodes by `steps`."""
    fields = ["__typename"]
    for name, field in type_.fields.items():
        target = get_named_type(field.type)
        if any(map(is_required_argument, field.args.values())):
            continue
        if is_leaf_type(target):
            fields.append(name)
        elif isinstance(target, GraphQLObjectType) and "id" in target.fields:
            fields.append(f"{name} {{ {seen(target, steps - 1) if steps else '__typename id'} }}")
        elif target.name.endswith("Connection"):
            fields.append(f"{name} {{ totalCount }}")
    return " ".join(fields)


def nodes_of(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from nodes_of(item)
    elif isinstance(value, dict):
        if len(value) > 2 and "__typename" in value:
            yield value
        for child in value.values():
            yield from nodes_of(child)


def reference(value: Any) -> Any:
    """Value of a field with the ids in place of nodes."""
    if isinstance(value, list):
        return [reference(item) for item in value]
    return value.get("id") if isinstance(value, dict) else value


async def test_a_node_has_the_same_fields_by_every_way(stocked: Stocked) -> None:
    service = stocked.service
    first = await service.data(
        "{ warehouses { id } reservations { nodes { id } } adjustments { nodes { id } } }"
    )
    created = await create_webhook(service.database, service.tenant_id, url="https://example.com/")
    names = {
        "hook": created.record.id,
        "one": first["warehouses"][0]["id"],
        "two": first["warehouses"][1]["id"],
        "code": CODES[7],
        "held": first["reservations"]["nodes"][0]["id"],
        "entry": first["adjustments"]["nodes"][0]["id"],
    }
    await service.data(IDENTIFY, {"sku": names["code"], "warehouse": names["one"]}, token="admin")
    known: dict[tuple[str, str], dict[str, Any]] = {}
    reached: dict[str, set[str]] = {}
    query_type = TYPES["Query"]
    assert isinstance(query_type, GraphQLObjectType)

    for way in ways(query_type, STEPS):
        query = way
        for name, value in names.items():
            query = query.replace(f"{{{name}}}", value)
        for node in nodes_of(await service.data(query, token="admin")):
            key = node["__typename"], node["id"]
            reached.setdefault(node["__typename"], set()).add(way)
            fields = known.setdefault(key, {})
            for name, value in node.items():
                # Pages of a list have different arguments.
                if not isinstance(value, dict) or "id" in value:
                    same = reference(value)
                    assert fields.setdefault(name, same) == same, (way, key, name)

    nodes = {type_.name for type_ in schema._schema.get_possible_types(TYPES["Node"])}  # type: ignore[arg-type]
    assert reached.keys() == nodes
    assert all(len(found) > 1 for found in reached.values()), reached
