"""Webhooks are managed in GraphQL by administrators of the tenant."""

import json
from typing import Any, Final

import pytest

from app.domain.webhooks import MAX_WEBHOOKS
from app.writes import webhooks as management
from tests.graphql.operations import refusal
from tests.service import Service, new_tenant
from tests.webhooks.receiver import deliver_all, receiving, response
from tests.webhooks.stock import MAIN, set_stock

FIELDS: Final = "id url types warehouseIds status signature publicKey position failures lastStatus"
CREATE: Final = f"""
mutation ($input: CreateWebhookInput!) {{
  createWebhook(input: $input) {{ secret webhook {{ {FIELDS} }} }}
}}
"""
UPDATE: Final = f"""
mutation ($input: UpdateWebhookInput!) {{
  updateWebhook(input: $input) {{ webhook {{ {FIELDS} disablingReason }} }}
}}
"""
ROTATE: Final = """
mutation ($input: RotateWebhookSecretInput!) {
  rotateWebhookSecret(input: $input) { secret webhook { id publicKey previousSecretUntil } }
}
"""
AGAIN: Final = """
mutation ($input: SendWebhookAgainInput!) {
  sendWebhookAgain(input: $input) { webhook { position } }
}
"""
DELETE: Final = """
mutation ($input: DeleteWebhookInput!) { deleteWebhook(input: $input) { webhook { id } } }
"""
LIST: Final = (
    "query ($first: Int! = 50, $after: String) { webhooks(first: $first, after: $after) "
    f"{{ totalCount pageInfo {{ hasNextPage endCursor }} nodes {{ {FIELDS} }} }} }}"
)
LOG: Final = """
query ($id: ID!, $first: Int! = 50, $after: String) {
  webhookAttempts(webhookId: $id, first: $first, after: $after) {
    totalCount
    pageInfo { hasNextPage endCursor }
    nodes { messageId startedAt durationMs after readTo changes status error answer }
  }
}
"""
URL: Final = "https://shop.example/stock"


async def managed(service: Service, query: str, **content: object) -> Any:
    """Run a mutation as an administrator, and return its payload."""
    [payload] = (await service.data(query, {"input": content}, token="admin")).values()
    return payload


async def refused(service: Service, query: str, **content: object) -> tuple[int, str]:
    """Run a mutation that is refused."""
    return refusal(await service.graphql(query, {"input": content}, token="admin"))


async def test_a_secret_is_shown_once(service: Service) -> None:
    created = await managed(service, CREATE, url=URL, types=["STOCK_CHANGED"])
    secret = created["secret"]
    assert secret.startswith("whsec_")
    assert created["webhook"] == {
        "id": created["webhook"]["id"],
        "url": URL,
        "types": ["STOCK_CHANGED"],
        "warehouseIds": None,
        "status": "ACTIVE",
        "signature": "HMAC",
        "publicKey": None,
        "position": 0,
        "failures": 0,
        "lastStatus": None,
    }
    listed = await service.data(LIST, token="admin")
    assert listed["webhooks"]["nodes"] == [created["webhook"]]
    assert secret not in json.dumps(listed)
    rotated = await managed(service, ROTATE, id=created["webhook"]["id"], overlapHours=1)
    assert rotated["secret"] not in (None, secret)
    assert rotated["webhook"]["previousSecretUntil"]


async def test_a_private_key_is_never_shown(service: Service) -> None:
    created = await managed(service, CREATE, url=URL, signature="ED25519")
    rotated = await managed(service, ROTATE, id=created["webhook"]["id"])
    keys = [each["webhook"]["publicKey"] for each in (created, rotated)]
    assert created["secret"] is rotated["secret"] is None
    assert all(key.startswith("whpk_") for key in keys)
    assert keys[0] != keys[1]
    assert "whsk_" not in json.dumps([created, rotated])


async def test_omitted_fields_keep_their_values_and_null_removes_a_filter(
    service: Service,
) -> None:
    created = await managed(service, CREATE, url=URL, types=["SKU_CREATED"], warehouseIds=[MAIN.id])
    id_ = created["webhook"]["id"]
    paused = (await managed(service, UPDATE, id=id_, isPaused=True))["webhook"]
    assert (paused["status"], paused["types"], paused["warehouseIds"], paused["url"]) == (
        *("PAUSED", ["SKU_CREATED"]),
        *([MAIN.id], URL),
    )
    changed = await managed(service, UPDATE, id=id_, types=None, isPaused=False)
    assert (changed["webhook"]["status"], changed["webhook"]["types"]) == ("ACTIVE", None)
    assert changed["webhook"]["warehouseIds"] == [MAIN.id]
    await managed(service, DELETE, id=id_)
    assert await refused(service, DELETE, id=id_) == (404, "WEBHOOK_NOT_FOUND")


@pytest.mark.parametrize(
    "content",
    [
        {"url": "ftp://shop.example/"},
        {"url": "https://10.0.0.1/"},
        {"url": "https://shop.example/" + "a" * 2_000},
        {"url": ""},
        {"types": []},
        {"warehouseIds": []},
        {"warehouseIds": [f"wh_{number}" for number in range(201)]},
    ],
    ids=str,
)
async def test_invalid_webhooks_are_refused(service: Service, content: dict[str, object]) -> None:
    given = {"url": URL, **content}
    assert await refused(service, CREATE, **given) == (422, "VALIDATION_ERROR")
    created = await managed(service, CREATE, url=URL)
    id_ = created["webhook"]["id"]
    assert await refused(service, UPDATE, id=id_, **content) == (422, "VALIDATION_ERROR")


async def test_a_filter_has_warehouses_of_the_tenant_only(service: Service) -> None:
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    for id_ in (MAIN.id, "wh_unknown", "wh_\0"):
        assert await refused(other, CREATE, url=URL, warehouseIds=[id_]) == (
            *(404, "WAREHOUSE_NOT_FOUND"),
        )


async def test_a_webhook_of_another_tenant_does_not_exist(service: Service) -> None:
    created = await managed(service, CREATE, url=URL)
    other = Service(
        service.app, service.client, service.database, await new_tenant(service.database)
    )
    id_ = created["webhook"]["id"]
    for query, content in (
        (UPDATE, {"isPaused": True}),
        (ROTATE, {}),
        (AGAIN, {"after": 0}),
        (DELETE, {}),
    ):
        assert await refused(other, query, id=id_, **content) == (404, "WEBHOOK_NOT_FOUND")
    node = "query ($id: ID!) { node(id: $id) { id } }"
    assert await other.data(node, {"id": id_}, token="admin") == {"node": None}
    assert await service.data(node, {"id": id_}, token="admin") == {"node": {"id": id_}}
    assert (await service.data(LIST, token="admin"))["webhooks"]["totalCount"] == 1


@pytest.mark.parametrize("token", ["read", "write"])
async def test_only_administrators_reach_a_webhook_as_a_node(service: Service, token: str) -> None:
    created = await managed(service, CREATE, url=URL)
    given = {"id": created["webhook"]["id"]}
    for query in ("node(id: $id) { id }", "nodes(ids: [$id]) { id }"):
        data = await service.data(f"query ($id: ID!) {{ found: {query} }}", given, token=token)
        assert data["found"] in (None, [None])


async def test_the_number_of_webhooks_of_a_tenant_is_bounded(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "MAX_WEBHOOKS", 2)
    for _ in range(2):
        await managed(service, CREATE, url=URL)
    assert await refused(service, CREATE, url=URL) == (422, "VALIDATION_ERROR")
    assert MAX_WEBHOOKS == 50


@pytest.mark.parametrize("hours", [-1, 169, 2_147_483_647])
async def test_an_overlap_has_limits(service: Service, hours: int) -> None:
    created = await managed(service, CREATE, url=URL)
    content = {"id": created["webhook"]["id"], "overlapHours": hours}
    assert await refused(service, ROTATE, **content) == (422, "VALIDATION_ERROR")


async def test_a_position_that_the_feed_does_not_have_is_refused(service: Service) -> None:
    created = await managed(service, CREATE, url=URL)
    id_ = created["webhook"]["id"]
    await set_stock(service, 5)
    assert await managed(service, AGAIN, id=id_, after=1) == {"webhook": {"position": 1}}
    for position in (99, 9_007_199_254_740_991):
        assert await refused(service, AGAIN, id=id_, after=position) == (410, "CHANGES_GONE")
    assert await refused(service, AGAIN, id=id_, after=-1) == (422, "VALIDATION_ERROR")


async def test_the_log_has_a_page_of_attempts(service: Service) -> None:
    async with receiving(lambda _: response(200, "taken")) as receiver:
        created = await managed(service, CREATE, url=receiver.url)
        id_ = created["webhook"]["id"]
        for number in range(3):
            await set_stock(service, number)
            await deliver_all(service.database)
    page = (await service.data(LOG, {"id": id_, "first": 2}, token="admin"))["webhookAttempts"]
    after = {"id": id_, "first": 2, "after": page["pageInfo"]["endCursor"]}
    rest = (await service.data(LOG, after, token="admin"))["webhookAttempts"]

    attempts = [*page["nodes"], *rest["nodes"]]
    assert (page["totalCount"], len(page["nodes"]), len(attempts)) == (3, 2, 3)
    assert [each["messageId"] for each in reversed(attempts)] == [
        each.headers["webhook-id"] for each in receiver.received
    ]
    assert {(each["status"], each["error"], each["answer"]) for each in attempts} == {
        (200, None, "taken")
    }
    assert [each["readTo"] for each in attempts[1:]] == [each["after"] for each in attempts[:-1]]
    assert rest["pageInfo"]["hasNextPage"] is False


async def test_a_cursor_of_one_log_is_not_one_of_another(service: Service) -> None:
    async with receiving() as receiver:
        ids = []
        for _ in range(2):
            created = await managed(service, CREATE, url=receiver.url)
            ids.append(created["webhook"]["id"])
        await set_stock(service, 1)
        await deliver_all(service.database)
    page = (await service.data(LOG, {"id": ids[0]}, token="admin"))["webhookAttempts"]
    given = {"id": ids[1], "after": page["pageInfo"]["endCursor"]}
    answer = await service.graphql(LOG, given, token="admin")
    assert refusal(answer) == (422, "INVALID_CURSOR")
