"""External ids and metadata of SKUs and warehouses: writes, look-ups and changes."""

import asyncio
import json
from typing import Any, Final

import pytest

from app.deliveries.messages import message_body
from app.domain.webhooks import Message
from app.reads.changes import list_changes
from tests.ledger.reservations import MAIN, OTHER, stocked
from tests.ledger.writes import assert_proven
from tests.service import Service, new_tenant, now

EAN: Final = "4006381333931"
DETAILS: Final = "externalIds { namespace value } metadata { key value }"
CREATE_SKU: Final = f"""
mutation ($input: CreateSkuInput!) {{
  createSku(input: $input) {{ sku {{ sku version {DETAILS} }} replayed }}
}}
"""
UPDATE_SKU: Final = CREATE_SKU.replace("CreateSku", "UpdateSku").replace("createSku", "updateSku")
CHANGE_WAREHOUSE: Final = f"""
mutation ($input: UpdateWarehouseInput!) {{
  updateWarehouse(input: $input) {{ warehouse {{ id name {DETAILS} }} replayed }}
}}
"""
NEW_WAREHOUSE: Final = CHANGE_WAREHOUSE.replace("UpdateWare", "CreateWare").replace(
    "updateW", "createW"
)
FIND: Final = """
query ($id: ExternalIdInput!) {
  skuByExternalId(externalId: $id) { sku }
  skus(filter: {externalId: $id}) {
    totalCount
    nodes { sku }
    pageInfo { hasNextPage endCursor }
  }
}
"""
CHANGES: Final = """
{
  changes { nodes {
    type code warehouseId
    before { title name version externalIds { namespace value } metadata { key value } }
    after { title name version externalIds { namespace value } metadata { key value } }
  } }
}
"""


def ids(**namespaces: list[str]) -> list[dict[str, object]]:
    return [{"namespace": name, "values": values} for name, values in namespaces.items()]


def entries(**values: str | None) -> list[dict[str, object]]:
    return [{"key": key, "value": value} for key, value in values.items()]


async def written(service: Service, query: str, **content: object) -> dict[str, Any]:
    """Details and version of the written object."""
    data = await service.data(query, {"input": content}, token="admin")
    [payload] = data.values()
    result: dict[str, Any] = payload.get("sku") or payload["warehouse"]
    result["externalIds"] = [
        f"{each['namespace']}:{each['value']}" for each in result["externalIds"]
    ]
    result["metadata"] = {each["key"]: each["value"] for each in result["metadata"]}
    return result


async def refused(service: Service, query: str, **content: object) -> dict[str, Any]:
    answer = await service.graphql(query, {"input": content}, token="admin")
    [error] = answer["errors"]
    extensions: dict[str, Any] = error["extensions"]
    return extensions


async def found(service: Service, namespace: str, value: str) -> list[str]:
    data = await service.data(
        "query ($id: ExternalIdInput) { skus(filter: {externalId: $id}) { nodes { sku } } }",
        {"id": {"namespace": namespace, "value": value}},
    )
    return [node["sku"] for node in data["skus"]["nodes"]]


async def test_a_sku_is_created_with_external_ids_and_found_by_them(service: Service) -> None:
    made = await written(
        service,
        CREATE_SKU,
        sku="A",
        title="Box",
        externalIds=ids(shopify=["gid://shopify/1"], gtin=[EAN, "036000291452"]),
        metadata=entries(color="blue", size="L"),
    )

    assert made["externalIds"] == ["gtin:036000291452", f"gtin:{EAN}", "shopify:gid://shopify/1"]
    assert made["metadata"] == {"color": "blue", "size": "L"}
    data = await service.data(FIND, {"id": {"namespace": "gtin", "value": EAN}})
    assert data["skuByExternalId"] == {"sku": "A"}
    assert (data["skus"]["totalCount"], data["skus"]["nodes"]) == (1, [{"sku": "A"}])
    assert data["skus"]["pageInfo"]["endCursor"].startswith("cursor_")
    read = await service.data(
        f'{{ sku(sku: "A") {{ {DETAILS} }} skus {{ nodes {{ {DETAILS} }} }} }}'
    )
    assert read["sku"] == read["skus"]["nodes"][0]
    assert len(read["sku"]["externalIds"]) == 3
    await assert_proven(service)


async def test_a_look_up_needs_no_other_field(service: Service) -> None:
    await stocked(service)
    await written(service, UPDATE_SKU, sku="A", externalIds=ids(erp=["1"]))
    await written(service, CHANGE_WAREHOUSE, id=MAIN.id, externalIds=ids(erp=["1"]))
    id_ = {"namespace": "erp", "value": "1"}
    for query in (
        '{ skus(filter: {externalId: {namespace: "erp", value: "1"}}) { nodes { sku } } }',
        "query ($id: ExternalIdInput) { skus(filter: {externalId: $id}) { nodes { sku } } }",
        "query ($where: SkuFilterInput) { skus(filter: $where) { nodes { sku } } }",
        '{ skuByExternalId(externalId: {namespace: "erp", value: "1"}) { sku } }',
        "query ($id: ExternalIdInput!) { skuByExternalId(externalId: $id) { sku } }",
        "query ($id: ExternalIdInput!) { warehouseByExternalId(externalId: $id) { name } }",
        '{ warehouseByExternalId(externalId: {namespace: "erp", value: "1"}) { name } }',
    ):
        data = await service.data(query, {"id": id_, "where": {"externalId": id_}})
        [result] = data.values()
        [node] = result.get("nodes", [result])
        assert node in ({"sku": "A"}, {"name": "Main"}), query


@pytest.mark.parametrize("spelling", ["36000291452".zfill(length) for length in (12, 13, 14)])
async def test_zeros_before_a_gtin_do_not_matter(service: Service, spelling: str) -> None:
    await stocked(service)
    after = await written(service, UPDATE_SKU, sku="A", externalIds=ids(gtin=[spelling]))
    assert after["externalIds"] == ["gtin:036000291452"]
    for length in (12, 13, 14):
        assert await found(service, "gtin", "36000291452".zfill(length)) == ["A"]
    error = await refused(
        service, UPDATE_SKU, sku="B", externalIds=ids(gtin=["36000291452".zfill(13)])
    )
    assert error["code"] == "EXTERNAL_ID_TAKEN"
    assert error["details"] == [{"namespace": "gtin", "value": "036000291452", "sku": "A"}]


async def test_an_update_replaces_the_named_namespaces_and_merges_the_metadata(
    service: Service,
) -> None:
    await stocked(service)
    await written(
        service,
        UPDATE_SKU,
        sku="A",
        externalIds=ids(erp=["1", "2"], shop=["x"]),
        metadata=entries(a="1", b="2"),
    )
    after = await written(
        service, UPDATE_SKU, sku="A", externalIds=ids(erp=["3"]), metadata=entries(b=None, c="3")
    )
    assert (after["externalIds"], after["metadata"]) == (["erp:3", "shop:x"], {"a": "1", "c": "3"})
    assert (await found(service, "erp", "1"), await found(service, "erp", "3")) == ([], ["A"])
    after = await written(service, UPDATE_SKU, sku="A", externalIds=ids(erp=[]))
    assert (after["externalIds"], after["metadata"]) == (["shop:x"], {"a": "1", "c": "3"})
    after = await written(
        service, UPDATE_SKU, sku="A", metadata=entries(d="4"), replaceMetadata=True
    )
    assert (after["externalIds"], after["metadata"]) == (["shop:x"], {"d": "4"})
    after = await written(service, UPDATE_SKU, sku="A", replaceMetadata=True)
    assert after["metadata"] == {}
    await assert_proven(service)


async def test_details_change_the_version_and_the_feed_once(service: Service) -> None:
    await stocked(service)
    change = {"externalIds": ids(erp=["1"]), "metadata": entries(color="blue")}
    versions = [
        (await written(service, UPDATE_SKU, sku="A", **content))["version"]
        for content in (
            change,
            change,
            {"metadata": entries(color="red", size="L")},
            {"title": "T"},
        )
    ]
    assert versions == [versions[0], versions[0], versions[0] + 1, versions[0] + 2]
    nodes = (await service.data(CHANGES))["changes"]["nodes"]
    assert [node["type"] for node in nodes] == ["SKU_CHANGED"] * 3
    first, second, third = nodes
    assert (first["before"]["externalIds"], first["before"]["metadata"]) == ([], [])
    assert first["after"]["externalIds"] == [{"namespace": "erp", "value": "1"}]
    assert first["after"]["version"] == versions[0]
    # Only what has changed.
    assert (second["before"]["externalIds"], second["after"]["externalIds"]) == (None, None)
    assert second["before"]["metadata"] == [{"key": "color", "value": "blue"}]
    assert second["after"]["metadata"] == [
        {"key": "color", "value": "red"},
        {"key": "size", "value": "L"},
    ]
    assert (third["after"]["title"], third["after"]["metadata"]) == ("T", None)
    rest = (await service.rest("GET", "/api/inventory/changes")).json()["data"]
    assert rest[1]["after"]["metadata"] == {"color": "red", "size": "L"}
    assert rest[0]["after"]["external_ids"] == [{"namespace": "erp", "value": "1"}]
    # A webhook sends changes as the REST feed has them.
    async with service.database.snapshot(tenant_id=service.tenant_id) as snapshot:
        page = await list_changes(snapshot, service.tenant_id, after=0, limit=10)
    message = Message(
        tenant_id=service.tenant_id,
        webhook_id="whk_1",
        lease_id="lse_1",
        id="msg_1",
        url="",
        secrets=(),
        at=now(),
        after_position=0,
        read_to=3,
        changes=tuple(page.records),
        failing_since=None,
    )
    assert json.loads(message_body(message))["data"]["changes"] == rest
    error = await refused(
        service, UPDATE_SKU, sku="A", metadata=entries(a="1"), expectedVersion=versions[0]
    )
    assert error["code"] == "STALE_VERSION"


async def test_a_dry_run_shows_the_details_and_a_replay_the_first_result(service: Service) -> None:
    await stocked(service)
    content = {"sku": "A", "externalIds": ids(erp=["1"]), "metadata": entries(a="1")}
    preview = await written(service, UPDATE_SKU, **content, dryRun=True)
    assert (preview["externalIds"], preview["metadata"]) == (["erp:1"], {"a": "1"})
    assert await found(service, "erp", "1") == []

    first = await written(service, UPDATE_SKU, **content, idempotencyKey="k")
    await written(service, UPDATE_SKU, sku="A", externalIds=ids(erp=["2"]))
    assert await written(service, UPDATE_SKU, **content, idempotencyKey="k") == first
    assert await found(service, "erp", "2") == ["A"]
    error = await refused(
        service, UPDATE_SKU, **{**content, "metadata": entries(a="2")}, idempotencyKey="k"
    )
    assert error["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_warehouses_have_details_and_ids_of_their_own(service: Service) -> None:
    await stocked(service)
    await written(service, UPDATE_SKU, sku="A", externalIds=ids(erp=["1"]))
    after = await written(
        service,
        CHANGE_WAREHOUSE,
        id=MAIN.id,
        externalIds=ids(erp=["1"]),
        metadata=entries(city="Berlin"),
    )
    assert (after["externalIds"], after["metadata"]) == (["erp:1"], {"city": "Berlin"})
    data = await service.data(
        '{ warehouseByExternalId(externalId: {namespace: "erp", value: "1"}) { id } '
        "warehouses { id externalIds { value } metadata { value } } }"
    )
    assert data["warehouseByExternalId"] == {"id": MAIN.id}
    assert {warehouse["id"]: len(warehouse["externalIds"]) for warehouse in data["warehouses"]} == {
        warehouse["id"]: int(warehouse["id"] == MAIN.id) for warehouse in data["warehouses"]
    }
    error = await refused(
        service, NEW_WAREHOUSE, name="New", type="OWN", externalIds=ids(erp=["1"])
    )
    assert (error["code"], error["details"][0]["warehouse_id"]) == ("EXTERNAL_ID_TAKEN", MAIN.id)
    made = await written(service, NEW_WAREHOUSE, name="New", type="OWN", externalIds=ids(erp=["2"]))
    assert made["externalIds"] == ["erp:2"]
    nodes = (await service.data(CHANGES))["changes"]["nodes"]
    assert [(node["type"], node["warehouseId"]) for node in nodes[1:]] == [
        ("WAREHOUSE_CHANGED", MAIN.id),
        ("WAREHOUSE_CREATED", made["id"]),
    ]
    assert nodes[1]["after"]["metadata"] == [{"key": "city", "value": "Berlin"}]


async def test_of_two_writes_at_once_one_gets_the_id(service: Service) -> None:
    await stocked(service)
    answers = await asyncio.gather(
        *(
            service.graphql(
                UPDATE_SKU, {"input": {"sku": code, "externalIds": ids(erp=["1"])}}, token="admin"
            )
            for code in ("A", "B") * 4
        )
    )
    codes = [
        answer["errors"][0]["extensions"]["code"] for answer in answers if answer.get("errors")
    ]
    assert codes == ["EXTERNAL_ID_TAKEN"] * 4
    [owner] = await found(service, "erp", "1")
    # It moves when its owner has given it up.
    other = "B" if owner == "A" else "A"
    await written(service, UPDATE_SKU, sku=owner, externalIds=ids(erp=[]))
    await written(service, UPDATE_SKU, sku=other, externalIds=ids(erp=["1"]))
    assert await found(service, "erp", "1") == [other]
    await assert_proven(service)


MALFORMED: Final[list[tuple[dict[str, object], str]]] = [
    ({"externalIds": ids(gtin=["4006381333932"])}, "externalIds.0.values.0"),
    ({"externalIds": ids(gtin=["123"])}, "externalIds.0.values.0"),
    ({"externalIds": ids(gtin=["0" * 13])}, "externalIds.0.values.0"),
    ({"externalIds": ids(gtin=["٤٠٠٦٣٨١٣٣٣٩٣١"])}, "externalIds.0.values.0"),
    ({"externalIds": ids(erp=["1", ""])}, "externalIds.0.values.1"),
    ({"externalIds": ids(erp=["x" * 256])}, "externalIds.0.values.0"),
    ({"externalIds": ids(erp=["a\nb"])}, "externalIds.0.values.0"),
    ({"externalIds": ids(ERP=[])}, "externalIds.0.namespace"),
    ({"externalIds": ids(**{"a:b": ["1"]})}, "externalIds.0.namespace"),
    ({"externalIds": [*ids(erp=["1"]), *ids(erp=["2"])]}, "externalIds.1.namespace"),
    ({"externalIds": ids(erp=[str(n) for n in range(51)])}, "externalIds"),
    ({"externalIds": ids(erp=[f"{n:0>200}" for n in range(20)])}, "externalIds"),
    ({"metadata": entries(**{"a b": "1"})}, "metadata.0.key"),
    ({"metadata": entries(a="x" * 501)}, "metadata.0.value"),
    ({"metadata": entries(a="\x00")}, "metadata.0.value"),
    ({"metadata": [*entries(a="1"), *entries(a=None)]}, "metadata.1.key"),
    ({"metadata": entries(**{f"k{n}": "" for n in range(51)})}, "metadata"),
    ({"metadata": entries(**{f"k{n}": "x" * 490 for n in range(9)})}, "metadata"),
]


async def test_malformed_details_are_refused(service: Service) -> None:
    await stocked(service)
    for content, field in MALFORMED:
        error = await refused(service, UPDATE_SKU, sku="A", **content)
        assert error["code"] == "VALIDATION_ERROR", content
        assert [each["field"] for each in error["details"]] == [field], content
    assert (await service.data("{ feed: changes { newestPosition } }")) == {
        "feed": {"newestPosition": 0}
    }


async def test_the_limit_counts_what_an_object_has_already(service: Service) -> None:
    await stocked(service)
    many = [str(number) for number in range(50)]
    await written(service, UPDATE_SKU, sku="A", externalIds=ids(erp=many))
    error = await refused(service, UPDATE_SKU, sku="A", externalIds=ids(shop=["1"]))
    assert [each["field"] for each in error["details"]] == ["externalIds"]
    await written(service, UPDATE_SKU, sku="A", externalIds=ids(erp=many[1:], shop=["1"]))


async def test_a_look_up_needs_a_well_formed_id(service: Service) -> None:
    for query in (
        '{ skuByExternalId(externalId: {namespace: "Erp", value: "1"}) { sku } }',
        '{ skuByExternalId(externalId: {namespace: "gtin", value: "4006381333932"}) { sku } }',
        '{ skus(filter: {externalId: {namespace: "erp", value: ""}}) { totalCount } }',
        '{ warehouseByExternalId(externalId: {namespace: "", value: "1"}) { id } }',
    ):
        answer = await service.graphql(query)
        assert answer["errors"][0]["extensions"]["code"] == "VALIDATION_ERROR", query


async def test_details_of_another_tenant_are_not_found(service: Service) -> None:
    await stocked(service)
    await written(service, UPDATE_SKU, sku="A", externalIds=ids(erp=["1"]))
    await written(service, CHANGE_WAREHOUSE, id=OTHER.id, externalIds=ids(erp=["1"]))
    stranger = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    assert await found(stranger, "erp", "1") == []
    look_ups = {
        "INVENTORY_NOT_FOUND": "skuByExternalId(externalId: WANTED) { sku }",
        "WAREHOUSE_NOT_FOUND": "warehouseByExternalId(externalId: WANTED) { id }",
    }
    for code, look_up in look_ups.items():
        query = f"{{ {look_up} }}".replace("WANTED", '{namespace: "erp", value: "VALUE"}')
        known, unknown = [
            (await stranger.graphql(query.replace("VALUE", value)))["errors"][0]
            for value in ("1", "2")
        ]
        assert {each["extensions"]["code"] for each in (known, unknown)} == {code}
        assert known["message"].replace("1", "2") == unknown["message"]
    # The same id is free in another tenant.
    made = await written(stranger, CREATE_SKU, sku="A", title="Box", externalIds=ids(erp=["1"]))
    assert made["externalIds"] == ["erp:1"]


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_only_admins_change_details(service: Service, scope: str) -> None:
    await stocked(service)
    content = {"sku": "A", "metadata": entries(a="1")}
    answer = await service.graphql(UPDATE_SKU, {"input": content}, token=scope)
    assert answer["errors"][0]["extensions"]["code"] == "INSUFFICIENT_SCOPE"
