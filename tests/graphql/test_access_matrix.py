"""Access control of every root field and every route, with every kind of credential."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)
from msgspec import structs
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.tables import person, reservation, reservation_line, stock_level
from app.domain.caller import Scope
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.graphql.schema import scopes as access
from app.graphql.schema.scopes import SCOPES
from app.writes.tenants import create_token, revoke_token
from rest_shim.routes import ROUTES, RestRoute
from tests.engines import transact
from tests.graphql.operations import Json, objects_with_id, refusals, send_operation, without
from tests.graphql.stored_rows import EXTERNAL_ID, insert_change, insert_external_ids
from tests.graphql.test_schema import OBJECTS
from tests.service import EMAIL, Service, counted, level, new_tenant, sku
from tests.webhooks.rows import insert_webhook

# Tokens are named by their scope.
READ: Final = "read"
ADMIN: Final = "admin"

WAREHOUSE: Final = "wh_01HX0000000000000000000001"
OTHER: Final = "wh_01HX0000000000000000000002"
PARTNER: Final = "wh_01HX0000000000000000000003"
HELD: Final = "rsv_01HX0000000000000000000001"
ENTRY: Final = "adj_01HX0000000000000000000001"
HOOK: Final = "whk_01HX0000000000000000000001"
CODE: Final = "CODE-OF-A"
# Ids of the same form without an object.
UNKNOWN: Final = {
    WAREHOUSE: "wh_01HX0000000000000000000009",
    OTHER: "wh_01HX0000000000000000000008",
    PARTNER: "wh_01HX0000000000000000000007",
    HELD: "rsv_01HX0000000000000000000009",
    ENTRY: "adj_01HX0000000000000000000009",
    HOOK: "whk_01HX0000000000000000000009",
    CODE: "CODE-OF-X",
    EXTERNAL_ID: "ID-OF-X",
    "CODE-TO-BE-OF-A": "CODE-TO-BE-OF-X",
}
SECRETS: Final = ("Title of A", "Hall of A", EMAIL, "adj_", "level_", "hook-of-a.example")

UPDATE: Final[Json] = {"warehouse_id": WAREHOUSE, "quantity": 5, "reason": "cycle_count"}
BODIES: Final[Mapping[str, Json]] = {
    "SetStock": UPDATE,
    "AdjustStock": {"warehouse_id": WAREHOUSE, "delta": 1, "reason": "cycle_count"},
    "TransferStock": {
        "from_warehouse_id": WAREHOUSE,
        "to_warehouse_id": OTHER,
        "lines": [{"sku": CODE, "quantity": 5}],
    },
    "BulkSetStock": {"updates": [{"sku": CODE, **UPDATE}]},
    "ReserveStock": {"lines": [{"sku": CODE, "warehouse_id": WAREHOUSE, "quantity": 5}]},
    "CommitReservation": {},
    "AmendReservation": {"lines": [{"sku": CODE, "warehouse_id": WAREHOUSE, "quantity": 5}]},
    "ExtendReservation": {"expires_in": 60},
    "ReleaseReservation": {},
}
# Values of arguments and input fields by name; other values follow from the type.
SAMPLES: Final[Mapping[str, object]] = {
    "sku": CODE,
    "id": WAREHOUSE,
    "warehouseId": WAREHOUSE,
    "fromWarehouseId": WAREHOUSE,
    "toWarehouseId": OTHER,
    "adjustmentId": ENTRY,
    "codes": CODE,
    "ids": WAREHOUSE,
    "at": "2026-11-25",
    "dryRun": True,
    "expiresIn": 60,
    "from": "2026-11-25",
    "to": "2026-11-25",
    "delta": 5,
    "quantity": 5,
    "reason": "cycle_count",
    "name": "Sku",
    "title": "T",
    "safetyStock": 5,
    "reorderPoint": 5,
    "onHand": 5,
    "reportedAt": "2026-01-01T00:00:00Z",
    "url": "https://example.com/",
    "after": 0,
    "webhookId": HOOK,
    "namespace": "erp",
    "value": EXTERNAL_ID,
}
# Values for inputs where the name alone is ambiguous.
OTHERS: Final = {
    ("SyncStockInput", "warehouseId"): PARTNER,
    ("CreateSkuInput", "sku"): "CODE-TO-BE-OF-A",
    **{
        (f"{name}ReservationInput", "id"): HELD for name in ("Commit", "Release", "Extend", "Amend")
    },
    ("reservation", "id"): HELD,
    ("webhook", "id"): HOOK,
    **{(f"{name}WebhookInput", "id"): HOOK for name in ("Update", "Delete")},
    **{(f"{name}Input", "id"): HOOK for name in ("RotateWebhookSecret", "SendWebhookAgain")},
}
# Mutations that create an object show no existing data.
MAKERS: Final = ("createSku", "createWarehouse", "createWebhook")
# Fields that differ between two equal writes.
CHANGING: Final = ("feedPosition", "updatedAt", "secret", "createdAt", "nextAttemptAt")
# Optional fields that these requests set.
CHOSEN: Final = {
    "QuantityChangeInput": ("quantity",),
    "ReversalTargetInput": ("adjustmentId",),
    # Operations that succeed once are dry runs, so that every credential can send them.
    "CommitReservationInput": ("dryRun",),
    "ReserveLineInput": ("warehouseId",),
    "ExtendReservationInput": ("expiresIn",),
    "ReleaseReservationInput": ("dryRun",),
    "ReverseAdjustmentsInput": ("dryRun",),
}
ONCE: Final = ("CommitReservation", "ReleaseReservation")
INTROSPECTION: Final[Mapping[str, str]] = {
    "__schema": "{ __schema { queryType { name } } }",
    "__type": '{ __type(name: "Sku") { name } }',
    "__typename": "{ __typename }",
}
ROOT_FIELDS: Final = [(root, name) for root in ("Query", "Mutation") for name in SCOPES[root]]
TOKENS: Final = ("availability", "read", "write", "admin")
CREDENTIALS: Final = ("none", "bad", "expired", "revoked", *TOKENS)
SUFFICIENT: Final[Mapping[Scope, set[str]]] = {
    Scope.AVAILABILITY: {"availability", "read", "write", "admin"},
    Scope.READ: {"read", "write", "admin"},
    Scope.WRITE: {"write", "admin"},
    Scope.ADMIN: {"admin"},
}


def sample(name: str, type_: Any) -> object:
    """Return a value for an argument or an input field."""
    if isinstance(type_, GraphQLNonNull):
        return sample(name, type_.of_type)
    if isinstance(type_, GraphQLList):
        return [sample(name, type_.of_type)]
    if isinstance(type_, GraphQLInputObjectType):
        return {
            inner: OTHERS.get((type_.name, inner)) or sample(inner, field.type)
            for inner, field in type_.fields.items()
            if is_required_input_field(field) or inner in CHOSEN.get(type_.name, ())
        }
    if isinstance(type_, GraphQLEnumType):
        return next(iter(type_.values))
    return SAMPLES[name]


def selection(type_: Any, depth: int = 3) -> str:
    """Return a selection of all fields down to a depth, with their required arguments."""
    named = get_named_type(type_)
    if is_leaf_type(named):
        return ""
    if isinstance(named, GraphQLUnionType):
        inner = (f"... on {type_.name} {selection(type_, depth)}" for type_ in named.types)
        return f"{{ {' '.join(inner)} }}"
    assert isinstance(named, (GraphQLObjectType, GraphQLInterfaceType))
    fields = [
        f"{name}{needed_by(field)} {selection(field.type, depth - 1)}"
        for name, field in named.fields.items()
        if is_leaf_type(get_named_type(field.type)) or depth > 1
    ]
    return f"{{ {' '.join(fields)} }}"


def needed_by(field: Any) -> str:
    """Return the required arguments of a field, as GraphQL text."""
    values = {
        key: literal(sample(key, each.type), each.type)
        for key, each in field.args.items()
        if is_required_argument(each)
    }
    return f"({', '.join(f'{key}: {value}' for key, value in values.items())})" if values else ""


def literal(value: object, type_: Any) -> str:
    """Return a value as GraphQL text; enum values have no quotes."""
    return str(value) if isinstance(get_named_type(type_), GraphQLEnumType) else json.dumps(value)


def document(root: str, name: str) -> tuple[str, Json]:
    """Return an operation with one root field, and its variables."""
    if name in INTROSPECTION:
        return (INTROSPECTION[name] if root == "Query" else "mutation { __typename }"), {}
    field = OBJECTS[root].fields[name]
    needed = {key: it for key, it in field.args.items() if is_required_argument(it)}
    declared = ", ".join(f"${key}: {it.type}" for key, it in needed.items())
    given = ", ".join(f"{key}: ${key}" for key in needed)
    return (
        f"{root.lower()} {f'({declared})' if needed else ''} "
        f"{{ {name}{f'({given})' if needed else ''} {selection(field.type)} }}",
        {key: OTHERS.get((name, key)) or sample(key, it.type) for key, it in needed.items()},
    )


def request(route: RestRoute) -> tuple[str, str, dict[str, Any]]:
    """Return the method, path and body of a request to a route."""
    path = route.path.replace("{sku:segment}", CODE).replace("{reservation_id:segment}", HELD)
    path = path.replace("{warehouse_id:segment}", WAREHOUSE)
    assert "{" not in path
    if route.operation in ONCE:
        path += "?dry_run=true"
    return route.method, path, {"json": BODIES[route.operation]} if route.body is not None else {}


@pytest.fixture
async def stocked(service: Service) -> Service:
    await load_objects(service)
    await transact(service.database, partial(hold, service))
    await transact(service.database, partial(insert_change, service, WAREHOUSE))
    await transact(service.database, partial(insert_webhook, service, HOOK))
    return service


async def load_objects(service: Service) -> None:
    """Insert the objects that the requests name, except the reservation."""
    warehouse, other = (
        WarehouseRecord(id_, "Hall of A", WarehouseType.OWN, None, None, is_active=True)
        for id_ in (WAREHOUSE, OTHER)
    )
    partner = structs.replace(warehouse, id=PARTNER, type=WarehouseType.THIRD_PARTY)
    counts = replace(level(warehouse, 500), history=[replace(counted(500), id=ENTRY)])
    await service.load([warehouse, other, partner], [sku(CODE, counts, title="Title of A")])
    await transact(service.database, partial(insert_external_ids, service, CODE, WAREHOUSE))


async def hold(service: Service, connection: AsyncConnection) -> None:
    """Insert a reservation with the id HELD."""
    tenant = {"tenant_id": service.tenant_id}
    now = datetime.now(UTC)
    author = select(person.c.id).where(
        person.c.tenant_id == service.tenant_id, person.c.email == EMAIL
    )
    held = {
        "id": HELD,
        "status": "open",
        "created_by": await connection.scalar(author),
        "created_at": now,
        "version": 1,
    }
    line = {"reservation_id": HELD, "sku": CODE, "warehouse_id": WAREHOUSE}
    await connection.execute(reservation.insert(), {**tenant, **held})
    await connection.execute(
        reservation_line.insert(), {**tenant, **line, "quantity": 5, "held": 5, "committed": 0}
    )
    await connection.execute(
        update(stock_level).where(stock_level.c.tenant_id == service.tenant_id).values(reserved=5)
    )


@pytest.fixture
async def credentials(stocked: Service) -> dict[str, str | None]:
    """Return a token of every kind."""

    async def token(expires_in: timedelta | None) -> tuple[str, str]:
        made = await create_token(
            stocked.database,
            stocked.tenant_id,
            name="T",
            email=EMAIL,
            scopes=[Scope.ADMIN],
            expires_in=expires_in,
        )
        return made.token, made.id

    expired, _ = await token(timedelta(seconds=-1))
    revoked, revoked_id = await token(None)
    await revoke_token(stocked.database, stocked.tenant_id, revoked_id)
    made = {"none": None, "bad": f"inv_{stocked.tenant_id}-bad"}
    return {**made, "expired": expired, "revoked": revoked} | {
        scope: stocked.token(scope) for scope in TOKENS
    }


def expected_of(needed: Scope, kind: str) -> tuple[int, str] | None:
    if kind in ("none", "bad", "expired", "revoked"):
        return 401, "UNAUTHENTICATED"
    return None if kind in SUFFICIENT[needed] else (403, "INSUFFICIENT_SCOPE")


@pytest.mark.parametrize(("root", "name"), ROOT_FIELDS)
async def test_root_field_requires_its_scope(
    stocked: Service, credentials: Mapping[str, str | None], root: str, name: str
) -> None:
    query, variables = document(root, name)
    outcomes: dict[str, tuple[int, str] | None] = {}
    for kind in CREDENTIALS:
        response = await send_operation(stocked, query, variables, token=credentials[kind])
        answer = response.json()
        if "errors" in answer:
            assert "data" not in answer, answer
            [refusal] = refusals(answer)
            assert (response.status_code == 401) is (refusal[0] == 401)
            outcomes[kind] = refusal
        else:
            assert answer["data"], answer
            outcomes[kind] = None

    needed = SCOPES[root][name]
    assert outcomes == {kind: expected_of(needed, kind) for kind in CREDENTIALS}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_route_requires_its_scope(
    stocked: Service, credentials: Mapping[str, str | None], route: RestRoute
) -> None:
    method, path, options = request(route)
    outcomes: dict[str, tuple[int, str] | None] = {}
    for kind in CREDENTIALS:
        response = await stocked.rest(method, path, token=credentials[kind], **options)
        body = response.json()
        outcomes[kind] = (response.status_code, body["error"]["code"]) if "error" in body else None

    needed = Scope.READ if method == "GET" else Scope.WRITE
    if route.operation == "ListAvailabilities":
        needed = Scope.AVAILABILITY
    assert outcomes == {kind: expected_of(needed, kind) for kind in CREDENTIALS}


@pytest.mark.parametrize(("root", "name"), [it for it in ROOT_FIELDS if not it[1].startswith("__")])
async def test_root_field_treats_objects_of_another_tenant_as_missing(
    stocked: Service, root: str, name: str
) -> None:
    other = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    query, variables = document(root, name)

    theirs = json.dumps(variables)
    missing_ids = theirs
    for known, unknown in UNKNOWN.items():
        missing_ids = missing_ids.replace(known, unknown)
    foreign = await other.graphql(query, json.loads(theirs), token=ADMIN)
    missing = await other.graphql(query, json.loads(missing_ids), token=ADMIN)
    if name in ("createWarehouse", "createWebhook"):
        noun = name.removeprefix("create").lower()
        assert foreign["data"][name][noun].pop("id")
        assert missing["data"][name][noun].pop("id")
    if name in MAKERS:
        # The second write follows the first.
        foreign, missing = (without(it, *CHANGING) for it in (foreign, missing))
    assert anonymous(foreign) == anonymous(missing)
    # The response may repeat an id of the request.
    text = json.dumps(foreign).replace(ENTRY, "")
    assert not any(secret in text for secret in SECRETS)
    # The same document returns data to the owner, so it is the tenant that hides the data.
    own = json.dumps(await stocked.graphql(query, variables, token=ADMIN))
    assert any(secret in own for secret in SECRETS) or name in ("node", "nodes", *MAKERS)


@pytest.mark.parametrize("kind", ["sku_", "wh_", "adj_", "level_", "rsv_"])
async def test_node_of_another_tenant_is_null(stocked: Service, kind: str) -> None:
    other = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    lists = await stocked.data(
        "{ warehouses { id } skus { nodes { id stock { id } adjustments { nodes { id } } } } "
        "reservations { nodes { id } } }"
    )
    ids = [it["id"] for it in objects_with_id(lists) if it["id"].startswith(kind)]
    assert ids

    for id_ in ids:
        node = "query ($id: ID!) { node(id: $id) { id } }"
        assert (await stocked.data(node, {"id": id_}))["node"] == {"id": id_}
        assert await other.data(node, {"id": id_}) == {"node": None}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_route_treats_objects_of_another_tenant_as_missing(
    stocked: Service, route: RestRoute
) -> None:
    other = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    method, path, options = request(route)

    unknown = json.loads(_as_unknown(json.dumps(options)))
    foreign = await other.rest(method, path, token=ADMIN, **options)
    missing = await other.rest(method, _as_unknown(path), token=ADMIN, **unknown)
    assert foreign.status_code == missing.status_code
    assert anonymous(foreign.json()) == anonymous(missing.json())
    assert not any(secret in foreign.text for secret in SECRETS)


async def test_writes_of_another_tenant_change_nothing(stocked: Service) -> None:
    other = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    stock = "{ skus { nodes { version stock { onHand version } } } adjustments { totalCount } }"
    before = await stocked.data(stock)

    for name in ("setStock", "bulkSetStock"):
        query, variables = document("Mutation", name)
        changed = json.loads(json.dumps(variables).replace('"quantity": 5', '"quantity": 6'))
        assert changed != variables
        assert "errors" in await other.graphql(query, changed, token=ADMIN)
    assert await stocked.data(stock) == before


@pytest.mark.parametrize(("root", "name"), [it for it in ROOT_FIELDS if not it[1].startswith("__")])
async def test_root_field_without_a_declared_scope_is_always_rejected(
    stocked: Service, monkeypatch: pytest.MonkeyPatch, root: str, name: str
) -> None:
    fewer = {
        each: {field: scope for field, scope in scopes.items() if (each, field) != (root, name)}
        for each, scopes in SCOPES.items()
    }
    monkeypatch.setattr(access, "SCOPES", fewer)
    query, variables = document(root, name)

    answer = await stocked.graphql(query, variables, token=ADMIN)
    assert "data" not in answer
    assert refusals(answer)
    assert await stocked.data("{ __typename }") == {"__typename": "Query"}


SET: Final = (
    f'setStock(input: {{sku: "{CODE}", warehouseId: "{WAREHOUSE}", quantity: 1, reason: "loss"}}) '
    "{ sku { sku } }"
)


@pytest.mark.parametrize(
    "query",
    [
        f"mutation {{ it: {SET} }}",
        f"mutation {{ __typename {SET} }}",
        f"mutation {{ ... {{ {SET} }} }}",
        f"mutation {{ ... on Mutation {{ {SET} }} }}",
        f"mutation {{ ...F }} fragment F on Mutation {{ {SET} }}",
        "mutation { ...F } fragment F on Mutation { ...G } "
        f"fragment G on Mutation {{ ... {{ {SET} }} }}",
        f"mutation ($no: Boolean! = false) {{ {SET} @include(if: $no) }}".replace(
            f"{SET} @include(if: $no)", f"... @include(if: $no) {{ {SET} }}"
        ),
        f"mutation {{ __typename ... @skip(if: true) {{ {SET} }} }}",
    ],
)
async def test_mutation_requires_its_scope_in_every_spelling(stocked: Service, query: str) -> None:
    answer = await stocked.graphql(query, token=READ)

    assert refusals(answer) == [(403, "INSUFFICIENT_SCOPE")]
    assert "data" not in answer
    data = await stocked.data("{ skus { nodes { totalOnHand } } }")
    assert data == {"skus": {"nodes": [{"totalOnHand": 500}]}}


async def test_only_the_executed_operation_requires_its_scope(stocked: Service) -> None:
    body = {"query": f"query Q {{ __typename }} mutation M {{ {SET} }}"}

    async def code(name: str) -> object:
        response = await stocked.rest(
            "POST", "/graphql", token=READ, json={**body, "operationName": name}
        )
        answer = response.json()
        return refusals(answer) if "errors" in answer else answer["data"]

    assert await code("Q") == {"__typename": "Query"}
    assert await code("M") == [(403, "INSUFFICIENT_SCOPE")]


def anonymous(answer: Json) -> object:
    """Return a response without the ids of the request and without the request id."""
    return json.loads(_as_unknown(json.dumps(without(answer, "request_id"))))


def _as_unknown(text: str) -> str:
    for known, unknown in UNKNOWN.items():
        text = text.replace(known, unknown)
    return text
