"""A reversal undoes adjustments once, by linked entries, and the ledger keeps both."""

import asyncio
from collections import Counter
from typing import Any, Final

import pytest

from app.domain.warehouses import WarehouseType
from tests.graphql.operations import bulk_item
from tests.ledger.writes import (
    ADJUST,
    BULK,
    SET,
    TRANSFER,
    Json,
    Update,
    assert_proven,
    ledger,
)
from tests.service import Service, level, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
MARKET: Final = warehouse("Market", WarehouseType.FBA)
REVERSE: Final = """
mutation ($input: ReverseAdjustmentsInput!) {
  reverseAdjustments(input: $input) {
    adjustments {
      id delta reason note reference reversalOf bulkId transferId afterQuantity
      sku { sku } warehouse { id }
    }
    skus { sku totalOnHand }
    replayed
  }
}
"""


async def stocked(service: Service) -> None:
    await service.load(
        [MAIN, OTHER, MARKET],
        [sku("A", level(MAIN, 10), level(OTHER, 5), level(MARKET, 7)), sku("B", level(MAIN, 3))],
    )


def adjusted(delta: int, **more: object) -> Json:
    return {"sku": "A", "warehouseId": MAIN.id, "delta": delta, "reason": "loss", **more}


async def adjust(service: Service, delta: int) -> str:
    data = await service.data(ADJUST, {"input": adjusted(delta, reference="count-1")})
    id_: str = data["adjustStock"]["adjustment"]["id"]
    return id_


def reversal(content: Json) -> Json:
    """Input of a reversal, from its fields and those of its target."""
    names = ("adjustmentId", "bulkId", "transferId")
    target = {name: content[name] for name in names if name in content}
    return {
        "target": target,
        **{name: value for name, value in content.items() if name not in target},
    }


async def reverse(service: Service, **content: object) -> dict[str, Any]:
    data = await service.data(REVERSE, {"input": reversal(content)})
    result: dict[str, Any] = data["reverseAdjustments"]
    return result


async def bulk_of(service: Service, adjustment: str) -> str:
    query = "query ($id: ID!) { node(id: $id) { ... on Adjustment { bulkId } } }"
    id_: str = (await service.data(query, {"id": adjustment}))["node"]["bulkId"]
    return id_


async def refusal(service: Service, **content: object) -> dict[str, Any]:
    answer = await service.graphql(REVERSE, {"input": reversal(content)})
    assert not any((answer.get("data") or {}).values()), answer
    result: dict[str, Any] = answer["errors"][0]["extensions"]
    return result


async def test_an_adjustment_is_reversed_once(service: Service) -> None:
    await stocked(service)
    id_ = await adjust(service, -4)
    await adjust(service, 1)
    done = await reverse(service, adjustmentId=id_, note="It was found")
    [entry] = done["adjustments"]
    assert (entry["delta"], entry["afterQuantity"], entry["reversalOf"]) == (4, 11, id_)
    assert (entry["reason"], entry["note"], entry["reference"]) == (
        *("reversal", "It was found", "count-1"),
    )
    assert done["skus"] == [{"sku": "A", "totalOnHand": 23}]
    refused = await refusal(service, adjustmentId=id_)
    assert refused["code"] == "ALREADY_REVERSED"
    assert refused["details"] == [{"id": id_, "reversed_by": entry["id"]}]
    # A reversal can be reversed, too.
    again = await reverse(service, adjustmentId=entry["id"], reason="correction")
    assert again["adjustments"][0]["delta"] == -4
    await assert_proven(service)


async def test_a_bulk_is_reversed_as_a_whole(service: Service) -> None:
    await stocked(service)
    updates = [
        bulk_item(Update("A", MAIN.id, 4).graphql),
        bulk_item(Update("B", MAIN.id, 9).graphql),
        bulk_item(Update("A", OTHER.id, 5).graphql),
    ]
    done = await service.data(BULK, {"input": {"updates": updates}})
    first = done["bulkSetStock"]["results"][0]["adjustment"]["id"]
    bulk = await bulk_of(service, first)
    undone = await reverse(service, bulkId=bulk)
    assert sorted(it["delta"] for it in undone["adjustments"]) == [-6, 0, 6]
    [new] = {it["bulkId"] for it in undone["adjustments"]}
    assert new not in (None, bulk)
    assert (await refusal(service, bulkId=bulk))["code"] == "ALREADY_REVERSED"
    assert (await refusal(service, adjustmentId=first))["code"] == "ALREADY_REVERSED"
    await reverse(service, bulkId=new)
    await assert_proven(service)


async def test_a_transfer_is_reversed_by_a_transfer(service: Service) -> None:
    await stocked(service)
    content = {
        "fromWarehouseId": MAIN.id,
        "toWarehouseId": OTHER.id,
        "lines": [{"sku": "A", "quantity": 4}, {"sku": "B", "quantity": 3}],
    }
    moved = (await service.data(TRANSFER, {"input": content}))["transferStock"]
    half = moved["lines"][0]["outgoing"]["id"]
    refused = await refusal(service, adjustmentId=half)
    assert refused["code"] == "VALIDATION_ERROR"
    undone = await reverse(service, transferId=moved["transferId"])
    assert Counter(it["delta"] for it in undone["adjustments"]) == {4: 1, -4: 1, 3: 1, -3: 1}
    assert {it["sku"]: it["totalOnHand"] for it in undone["skus"]} == {"A": 22, "B": 3}
    [new] = {it["transferId"] for it in undone["adjustments"]}
    assert new not in (None, moved["transferId"])
    await assert_proven(service)
    assert (await refusal(service, transferId=moved["transferId"]))["code"] == "ALREADY_REVERSED"


async def test_an_impossible_reversal_is_refused_as_a_whole(service: Service) -> None:
    await stocked(service)
    updates = [
        bulk_item(Update("A", MAIN.id, 20).graphql),
        bulk_item(Update("B", MAIN.id, 9).graphql),
    ]
    done = await service.data(BULK, {"input": {"updates": updates}})
    first = done["bulkSetStock"]["results"][0]["adjustment"]["id"]
    bulk = await bulk_of(service, first)
    await service.data(SET, {"input": Update("A", MAIN.id, 9).graphql})
    before = await ledger(service, "B")
    refused = await refusal(service, bulkId=bulk)
    assert refused["code"] == "NEGATIVE_QUANTITY"
    assert [it["sku"] for it in refused["details"]] == ["A"]
    assert await ledger(service, "B") == before
    await assert_proven(service)


async def test_a_marketplace_adjustment_cannot_be_reversed(service: Service) -> None:
    await stocked(service)
    data = await service.data(
        "query ($id: ID) { adjustments(filter: {warehouseId: $id}) { nodes { id } } }",
        {"id": MARKET.id},
    )
    [entry] = data["adjustments"]["nodes"]
    assert (await refusal(service, adjustmentId=entry["id"]))["code"] == "READONLY_WAREHOUSE"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({}, "VALIDATION_ERROR"),
        ({"adjustmentId": "adj_1", "bulkId": "blk_1"}, "VALIDATION_ERROR"),
        ({"adjustmentId": "adj_1", "bulkId": None}, "VALIDATION_ERROR"),
        ({"adjustmentId": None}, "VALIDATION_ERROR"),
        ({"adjustmentId": "adj_1", "reason": "No"}, "VALIDATION_ERROR"),
        ({"adjustmentId": "adj_1", "note": "x" * 1001}, "VALIDATION_ERROR"),
        ({"adjustmentId": "adj_1"}, "ADJUSTMENT_NOT_FOUND"),
        ({"adjustmentId": "\x00"}, "ADJUSTMENT_NOT_FOUND"),
        ({"bulkId": "blk_1"}, "ADJUSTMENT_NOT_FOUND"),
        ({"transferId": ""}, "ADJUSTMENT_NOT_FOUND"),
    ],
)
async def test_an_invalid_reversal_is_refused(
    service: Service, content: dict[str, object], code: str
) -> None:
    await stocked(service)
    assert (await refusal(service, **content))["code"] == code


async def test_concurrent_reversals_reverse_once(service: Service) -> None:
    await stocked(service)
    id_ = await adjust(service, -4)
    answers = await asyncio.gather(
        *(service.graphql(REVERSE, {"input": reversal({"adjustmentId": id_})}) for _ in range(10))
    )
    codes = Counter(
        it["errors"][0]["extensions"]["code"] if "errors" in it else "done" for it in answers
    )
    assert codes == {"done": 1, "ALREADY_REVERSED": 9}
    await assert_proven(service)


async def test_a_dry_run_reverses_nothing_and_a_replay_reverses_once(
    service: Service,
) -> None:
    await stocked(service)
    id_ = await adjust(service, -4)
    before = await ledger(service, "A")
    assert (await reverse(service, adjustmentId=id_, dryRun=True))["adjustments"][0]["delta"] == 4
    assert await ledger(service, "A") == before
    again = [await reverse(service, adjustmentId=id_, idempotencyKey="undo-1") for _ in range(2)]
    assert [it.pop("replayed") for it in again] == [False, True]
    assert again[0] == again[1]
    await assert_proven(service)
