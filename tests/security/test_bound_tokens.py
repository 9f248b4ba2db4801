"""A token bound to warehouses sees and changes nothing of other warehouses."""

import json
import re
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from graphql import get_named_type, is_leaf_type, parse
from msgspec import structs

from app.database.session import DriverSession
from app.domain.caller import Scope
from app.domain.warehouses import WarehouseType
from app.errors import NotFound, ValidationFailed, WarehouseNotFound
from app.graphql.schema.bound_tokens import BOUND_FIELDS, field_of_unbound_tokens
from app.graphql.schema.schema import schema
from app.graphql.schema.scopes import SCOPES
from app.reads.tenants import list_tokens
from app.writes.tenants import create_token, insert_token, rotate_token
from rest_shim.routes import ROUTES
from tests.graphql.test_access_matrix import document, needed_by, request
from tests.graphql.test_schema import OBJECTS
from tests.ledger.reservations import line, reserve
from tests.ledger.test_sync import report
from tests.ledger.writes import TRANSFER
from tests.service import EMAIL, Service, level, new_tenant, sku, warehouse

OWN: Final = structs.replace(warehouse("Ours"), id="wh_OURS")
SECOND: Final = structs.replace(warehouse("Second", WarehouseType.THIRD_PARTY), id="wh_SECOND")
FOREIGN: Final = structs.replace(warehouse("Forbidden Hall"), id="wh_FORBIDDEN")
MARKET: Final = structs.replace(warehouse("Forbidden FBA", WarehouseType.FBA), id="wh_FORBIDDEN_2")
UNKNOWN: Final = "wh_UNKNOWN"
# Quantities that only the other warehouses have, and sums with them.
TRACE: Final = re.compile(r"FORBIDDEN|Forbidden|[ :]-?[0-9]{6,}\b")
SYNC_OWN: Final = (
    "mutation ($input: SyncStockInput!) { syncStock(input: $input) "
    "{ results { status stockLevel { onHand } } } }"
)
STOCK: Final = {"A": (10, 4), "B": (20, 8)}


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service with stock, reservations and changes in two warehouses of a token and in others."""
    await load(service, foreign=True)
    return service


async def load(service: Service, *, foreign: bool) -> None:
    """Insert the stock of the token's warehouses, and optionally that of others."""
    more = [level(FOREIGN, 700_001, reserved=3, safety_stock=700_002), level(MARKET, 710_003)]
    warehouses = [OWN, SECOND, FOREIGN, MARKET]
    if not foreign:
        more, warehouses = [], [OWN, SECOND]
    skus = [
        sku(code, level(OWN, own, reserved=1), level(SECOND, second, safety_stock=2), *more)
        for code, (own, second) in STOCK.items()
    ]
    await service.load(warehouses, [*skus, sku("HIDDEN", *more)])
    await change(service, OWN.id, -1)
    if foreign:
        await change(service, FOREIGN.id, 700_004)
        ends = {"fromWarehouseId": FOREIGN.id, "toWarehouseId": OWN.id}
        lines = [{"sku": "A", "quantity": 2}]
        await service.data(TRANSFER, {"input": {**ends, "lines": lines}})
        await reserve(service, line("A", 1, OWN.id), line("A", 600_005, FOREIGN.id))
    else:
        await change(service, OWN.id, 2, reason="transfer")
        await reserve(service, line("A", 1, OWN.id))
    await change(service, SECOND.id, -1)


async def change(service: Service, warehouse_id: str, delta: int, **more: object) -> None:
    body = {"warehouse_id": warehouse_id, "delta": delta, "reason": "loss", **more}
    response = await service.rest("POST", "/api/inventory/A/adjustments", json=body)
    assert response.is_success, response.text


async def bound(
    service: Service, *scopes: Scope, ids: Collection[str] = (OWN.id, SECOND.id)
) -> str:
    """Create a bound token."""
    token = await create_token(
        service.database,
        service.tenant_id,
        name="3PL",
        email=EMAIL,
        scopes=scopes or (Scope.WRITE,),
        warehouse_ids=ids,
    )
    return token.token


def permitted(type_: Any, depth: int) -> str:
    """Select all permitted fields of a type down to a depth."""
    selected = []
    for name in sorted(BOUND_FIELDS[type_.name]):
        field = type_.fields[name]
        inner: Any = get_named_type(field.type)
        if is_leaf_type(inner):
            selected.append(name)
        elif depth > 1 and not needed_by(field):
            page = "(first: 3)" if "first" in field.args else ""
            selected.append(f"{name}{page} {permitted(inner, depth - 1)}")
    return f"{{ {' '.join(selected)} __typename }}"


def permitted_reads() -> list[str]:
    """Build queries with every permitted field, for own, other and unknown objects."""
    adjustments = permitted(OBJECTS["AdjustmentConnection"], 4)
    record = permitted(OBJECTS["Sku"], 5)
    place = permitted(OBJECTS["Warehouse"], 5)
    changes = permitted(OBJECTS["ChangePage"], 4)
    reads = [f"{{ warehouses {place} }}", f"{{ changes(first: 200) {changes} }}"]
    reads += [f'{{ skusByCode(codes: ["A", "HIDDEN", "B", "X"]) {record} }}']
    reads += [f'{{ sku(sku: "{code}") {record} }}' for code in ("A", "B", "HIDDEN", "X")]
    for id_ in (OWN.id, SECOND.id, FOREIGN.id, MARKET.id, UNKNOWN):
        named = f'warehouseId: "{id_}"'
        reads += [
            f'{{ warehouse(id: "{id_}") {place} }}',
            f"{{ adjustments(filter: {{{named}}}) {adjustments} }}",
            f'{{ adjustments(filter: {{{named}, sku: "A"}}) {adjustments} }}',
            f'{{ changes(warehouseIds: ["{id_}"]) {changes} }}',
            f'{{ changes(warehouseIds: ["{OWN.id}", "{id_}"]) {changes} }}',
            f'{{ sku(sku: "A") {{ stockLevel({named}) {{ onHand }} }} }}',
            '{ warehouse(id: "wh_OURS") { stock { nodes { adjustments(filter: {'
            f"{named}}}) {{ totalCount }} }} }} }} }}",
        ]
    return reads


async def test_no_permitted_field_has_a_trace_of_another_warehouse(stocked: Service) -> None:
    token = await bound(stocked, Scope.READ)
    for query in permitted_reads():
        answer = json.dumps(await stocked.graphql(query, token=token))
        # An error names the id that was asked for.
        assert not TRACE.search(echoless(answer)), query


def echoless(answer: str) -> str:
    """Return a response without the ids that its errors repeat from the request."""
    parsed = json.loads(answer)
    for error in parsed.get("errors", ()):
        assert error["extensions"]["code"] in ("WAREHOUSE_NOT_FOUND", "INVENTORY_NOT_FOUND")
        error.clear()
    return json.dumps(parsed)


async def test_reads_are_as_if_there_were_only_the_warehouses_of_the_token(
    stocked: Service,
) -> None:
    alone = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    await load(alone, foreign=False)
    token = await bound(stocked, Scope.READ)
    for query in permitted_reads():
        if FOREIGN.id in query or MARKET.id in query:
            # The unknown id takes its place.
            continue
        ours = await stocked.graphql(query, token=token)
        # Changes of whole SKUs and of reservations belong to no warehouse.
        of_both = f'changes(warehouseIds: ["{OWN.id}", "{SECOND.id}"], '
        theirs = await alone.graphql(
            query.replace("changes(first", f"{of_both}first"), token="read"
        )
        assert comparable(ours) == comparable(theirs), query


VOLATILE: Final = {
    *("id", "cursor", "startCursor", "endCursor", "position", "feedPosition", "readTo"),
    *("newestPosition", "adjustmentId", "reservationId", "transferId", "createdAt", "adjustedAt"),
    *("request_id", "archivedAt"),
}


def comparable(value: Any) -> Any:
    """Return a response without ids, positions and times, and without the version of SKUs."""
    if isinstance(value, list):
        return [comparable(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {name: each for name, each in value.items() if name not in VOLATILE}
    if value.get("__typename") == "Sku":
        del kept["version"]
    return {name: comparable(each) for name, each in kept.items()}


async def test_another_warehouse_is_indistinguishable_from_an_unknown_one(
    stocked: Service,
) -> None:
    token = await bound(stocked)
    ids = (FOREIGN.id, MARKET.id)
    for query in permitted_reads():
        for id_ in ids:
            if id_ in query:
                answer = await stocked.graphql(query, token=token)
                unknown = await stocked.graphql(query.replace(id_, UNKNOWN), token=token)
                assert same(answer, id_) == same(unknown, UNKNOWN), query
    for rest_path in (
        "/api/inventory?warehouse_id={}",
        "/api/inventory/A/adjustments?warehouse_id={}",
        "/api/inventory/A/adjustments?limit=2&warehouse_id={}",
        "/api/inventory/changes?warehouse_id={}",
    ):
        response = await stocked.rest("GET", rest_path.format(FOREIGN.id), token=token)
        other = await stocked.rest("GET", rest_path.format(UNKNOWN), token=token)
        assert response.status_code == other.status_code == 404
        assert same(response.json(), FOREIGN.id) == same(other.json(), UNKNOWN)


def same(answer: Any, id_: str) -> str:
    varying = r'"request_id": "[^"]*"|"locations": [^]]*\]'
    return re.sub(varying, "", json.dumps(answer)).replace(id_, "wh_X")


def writes(id_: str) -> list[tuple[str, str, dict[str, Any]]]:
    """List requests that write to a warehouse, alone and beside an own one."""
    own = {"sku": "A", "warehouse_id": OWN.id, "delta": 1, "reason": "loss"}
    update = {**own, "warehouse_id": id_}
    lines = [{"sku": "A", "quantity": 1}]
    item = {"warehouse_id": id_, "reason": "loss"}
    bulk = "/api/inventory/bulk"
    ways = [(OWN.id, id_), (id_, OWN.id)]
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "/api/inventory/A", {**item, "quantity": 5}),
        ("PUT", "/api/inventory/A", {**item, "quantity": -5}),
        ("POST", "/api/inventory/A/adjustments", {**item, "delta": -1}),
        ("POST", "/api/inventory/A/adjustments", {**item, "delta": -(10**9)}),
        ("POST", bulk, {"updates": [own, update]}),
        ("POST", bulk, {"updates": [update, own], "on_error": "continue"}),
    ]
    requests += [
        (
            "POST",
            "/api/inventory/transfers",
            {"from_warehouse_id": source, "to_warehouse_id": target, "lines": lines},
        )
        for source, target in ways
    ]
    return [*requests, *((m, f"{path}?dry_run=true", body) for m, path, body in requests)]


async def test_writes_to_another_warehouse_are_those_to_an_unknown_one(stocked: Service) -> None:
    token = await bound(stocked)
    before = await stocked.rest("GET", "/api/inventory/A", token="read")
    for id_ in (FOREIGN.id, MARKET.id):
        for sent, unknown in zip(writes(id_), writes(UNKNOWN), strict=True):
            if sent[2].get("on_error") and "dry_run" not in sent[1]:
                continue
            method, path, body = sent
            response = await stocked.rest(method, path, json=body, token=token)
            other = await stocked.rest(method, path, json=unknown[2], token=token)
            assert response.status_code == other.status_code, sent
            assert comparable_write(response.json(), id_) == comparable_write(
                other.json(), UNKNOWN
            ), sent
            assert not TRACE.search(response.text.replace(id_, "")), sent
    after = await stocked.rest("GET", "/api/inventory/A", token="read")
    assert after.json() == before.json()


def comparable_write(answer: Any, id_: str) -> str:
    return re.sub(r'"adj_[0-9A-Z]*"', "", same(answer, id_))


async def test_the_own_warehouses_are_written_and_show_their_own_totals(stocked: Service) -> None:
    token = await bound(stocked)
    item = {"warehouse_id": OWN.id, "reason": "cycle_count"}
    put = await stocked.rest("PUT", "/api/inventory/A", json={**item, "quantity": 30}, token=token)
    body = {**item, "quantity": 5}
    tag = {"If-Match": put.headers["ETag"]}
    new = await stocked.rest("PUT", "/api/inventory/HIDDEN", json=body, token=token)
    dry = await stocked.rest("PUT", "/api/inventory/B?dry_run=1", json=body, token=token)
    matched = await stocked.rest("PUT", "/api/inventory/A", json=body, headers=tag, token=token)
    lines = [{"sku": "A", "quantity": 2}]
    ends = {"from_warehouse_id": OWN.id, "to_warehouse_id": SECOND.id, "lines": lines}
    moved = await stocked.rest("POST", "/api/inventory/transfers", json=ends, token=token)

    record = put.json()["data"]
    assert [it["warehouse_id"] for it in record["warehouses"]] == [OWN.id, SECOND.id]
    assert record["total_on_hand"] == 33
    assert new.json()["data"]["total_on_hand"] == 5
    assert (dry.status_code, matched.status_code, moved.status_code) == (422, 200, 200)
    for response in (put, new, matched, moved):
        assert not TRACE.search(response.text)


async def test_a_third_party_reports_the_stock_of_its_own_warehouse(stocked: Service) -> None:
    token = await bound(stocked, ids=(SECOND.id,))
    answers = {
        id_: await stocked.graphql(SYNC_OWN, {"input": report(warehouse_id=id_, A=9)}, token=token)
        for id_ in (SECOND.id, OWN.id, MARKET.id, UNKNOWN)
    }

    data = answers.pop(SECOND.id)["data"]["syncStock"]["results"]
    assert data == [{"status": "IGNORED", "stockLevel": {"onHand": 3}}]
    assert len({same(answer, id_) for id_, answer in answers.items()}) == 1
    assert "WAREHOUSE_NOT_FOUND" in json.dumps(answers[UNKNOWN])


async def test_routes_are_open_or_refused_as_a_whole(stocked: Service) -> None:
    token = await bound(stocked)
    narrowed = await stocked.rest("GET", f"/api/inventory?warehouse_id={OWN.id}", token=token)
    assert [it["total_on_hand"] for it in narrowed.json()["data"]] == [11, 20]
    history = f"/api/inventory/A/adjustments?warehouse_id={OWN.id}"
    assert len((await stocked.rest("GET", history, token=token)).json()["data"]) == 3
    feed = (await stocked.rest("GET", "/api/inventory/changes", token=token)).json()["data"]
    assert {it["warehouse_id"] for it in feed} == {OWN.id, SECOND.id}
    outcomes = {}
    for route in ROUTES:
        method, path, content = request(route)
        path = re.sub(r"CODE-OF-A", "A", path)
        content = json.loads(re.sub(r"wh_01HX0+[12]", OWN.id, json.dumps(content)))
        response = await stocked.rest(method, path, token=token, **content)
        outcomes[route.operation] = response.status_code
        assert not TRACE.search(response.text), route
    refused = {name for name, status in outcomes.items() if status == 403}

    assert refused == {
        "ListInventory",
        "ListAdjustments",
        "ListReservations",
        "GetReservation",
        "GetSkuDetails",
        "ListAvailabilities",
        *(f"{verb}Reservation" for verb in ("Commit", "Amend", "Extend", "Release")),
        "ReserveStock",
    }


async def test_root_fields_that_are_not_permitted_are_refused(stocked: Service) -> None:
    token = await bound(stocked, Scope.WRITE)
    for root in ("Query", "Mutation"):
        for name in set(SCOPES[root]) - BOUND_FIELDS[root]:
            if name.startswith("__"):
                continue
            query, variables = document(root, name)
            answer = await stocked.graphql(query, variables, token=token)
            [error] = answer["errors"]
            assert error["extensions"]["code"] == "INSUFFICIENT_SCOPE", name
            assert answer.get("data") is None


def test_a_field_that_is_not_listed_is_refused_wherever_it_stands() -> None:
    refused = [
        "{ sku(sku: 1) { adjustments { totalCount } } }",
        "{ sku(sku: 1) { updatedAt } }",
        "{ warehouses { ...F } } fragment F on Warehouse { stock { ...G } } "
        "fragment G on StockLevelConnection { nodes { reservations { totalCount } } }",
        "{ warehouses { ... on Warehouse { ... { stock { nodes { sku { stockHistory } } } } } } }",
        "{ warehouses { id } skus { nodes { id } } }",
        '{ warehouses @skip(if: true) { id } a: node(id: "x") { id } }',
        "mutation { bulkSetStock { skus { id } } }",
        "mutation { transferStock { lines { sku { id } } } }",
        "subscription { statusChanged { code } }",
    ]
    permitted_documents = [
        "{ warehouses { ...F } } fragment F on Warehouse { id __typename }",
        "{ __schema { types { name } } __type { name } __typename }",
        "subscription { stockChanged { after { onHand } } }",
    ]
    for text in refused:
        assert refused_field(text) is not None, text
    for text in permitted_documents:
        assert refused_field(text) is None, text


def refused_field(text: str) -> str | None:
    parsed = parse(text)
    operation: Any = parsed.definitions[0]
    return field_of_unbound_tokens(schema._schema, parsed, operation)


def test_the_permitted_fields_exist_and_lead_to_permitted_types_alone() -> None:
    for type_name, fields in BOUND_FIELDS.items():
        for name in fields:
            inner = get_named_type(OBJECTS[type_name].fields[name].type)
            assert is_leaf_type(inner) or inner.name in BOUND_FIELDS, f"{type_name}.{name}"


async def test_bound_tokens_are_created_with_known_warehouses_and_without_admin(
    stocked: Service,
) -> None:
    other = await new_tenant(stocked.database)
    for ids in ([], [OWN.id] * 101):
        with pytest.raises(ValidationFailed):
            await bound(stocked, ids=ids)
    with pytest.raises(ValidationFailed):
        await bound(stocked, Scope.ADMIN)
    for ids in ([OWN.id, UNKNOWN], [""], ["wh_OURS wh_SECOND"]):
        with pytest.raises(WarehouseNotFound):
            await bound(stocked, ids=ids)
    foreign = Service(stocked.app, stocked.client, stocked.database, other)
    with pytest.raises(WarehouseNotFound):
        await bound(foreign)
    with pytest.raises(NotFound):
        await bound(replace(foreign, tenant_id="nobody"))

    async def insert(session: DriverSession) -> None:
        await insert_token(
            session,
            stocked.tenant_id,
            token="inv_x-y",
            name="T",
            email=EMAIL,
            scopes=[Scope.ADMIN],
            warehouse_ids=[OWN.id],
        )

    with pytest.raises(Exception, match="api_token_bound_scopes_check"):
        await stocked.database.transaction(insert)


async def test_a_rotated_token_stays_bound(stocked: Service) -> None:
    await bound(stocked, Scope.READ, ids=(OWN.id,))
    async with stocked.database.snapshot() as snapshot:
        rows = await list_tokens(snapshot, stocked.tenant_id)
    [old] = [row for row in rows if row["name"] == "3PL"]
    overlap = timedelta(hours=1)
    new = await rotate_token(stocked.database, stocked.tenant_id, str(old["id"]), overlap=overlap)
    body = (await stocked.rest("GET", "/api/inventory/warehouses", token=new.token)).json()

    assert old["warehouse_ids"] == OWN.id
    assert [it["id"] for it in body["data"]] == [OWN.id]
