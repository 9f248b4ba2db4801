"""Types of the schema in place of prose: error codes, details, one-of inputs, scalars."""

from typing import Any, Final

import pytest

from app.errors import ERRORS, InventoryNotFound, StaleVersion, ValidationFailed
from app.graphql.schema.mutations.stock import BulkError
from app.writes.stock import Refusal
from tests.graphql.operations import refused_fields
from tests.service import Service, level, sku, warehouse

BULK: Final = (
    "mutation ($u: [StockUpdateInput!]!) { bulkSetStock(input: {updates: $u, onError: CONTINUE}) "
    "{ results { status error { code details { __typename onHand version skuVersion } } } } }"
)
ONE_OF: Final = "{ __schema { types { name isOneOf kind specifiedByURL } } }"


async def test_a_stale_item_has_the_current_state_and_others_have_no_details(
    service: Service,
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    item = {"warehouseId": main.id, "change": {"delta": 1}, "reason": "loss"}
    updates = [{**item, "sku": "A", "expectedVersion": 9}, {**item, "sku": "B"}]

    for key in (None, "again", "again"):
        query = BULK.replace("{updates", f'{{idempotencyKey: "{key}", updates') if key else BULK
        results = (await service.data(query, {"u": updates}))["bulkSetStock"]["results"]
        stale = {"onHand": 5, "version": 1, "skuVersion": 2}
        assert [result["error"] for result in results] == [
            {"code": "STALE_VERSION", "details": {"__typename": "StaleVersionDetails", **stale}},
            {"code": "INVENTORY_NOT_FOUND", "details": None},
        ]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_becomes_an_error_of_an_item(error: Any) -> None:
    by_code: dict[str, dict[str, object]] = {
        StaleVersion.code: {"on_hand": 1, "version": 2, "sku_version": 3, "field": "x"},
        ValidationFailed.code: {"field": "note", "message": "is long"},
    }
    details = by_code.get(error.code, {"index": 1})
    refusal = InventoryNotFound("x", details=[details])
    refusal.__class__ = error

    made = BulkError.of(Refusal.of(refusal))
    assert made.code.value == error.code
    is_malformed = error.code == ValidationFailed.code
    assert (made.details is not None) is (len(details) > 1 and not is_malformed)
    assert [(each.field, each.message) for each in made.fields] == (
        [("note", "is long")] if is_malformed else []
    )


@pytest.mark.parametrize(
    "change", [{}, {"quantity": None}, {"quantity": 1, "delta": 1}, {"quantity": 1, "delta": None}]
)
async def test_a_change_that_is_not_exactly_one_is_refused_with_the_names(
    service: Service, change: dict[str, object]
) -> None:
    updates = [{"sku": "A", "warehouseId": "w", "change": change, "reason": "loss"}]
    # The second execution takes the plans of the first.
    for _ in range(2):
        answer = await service.graphql(BULK, {"u": updates})
        [field] = refused_fields(answer)
        assert field in {"u.0.change", "u.0.change.quantity"}
        assert "exactly one of quantity, delta" in answer["errors"][0]["message"]
        assert "data" not in answer
    literal = BULK.replace("$u: [StockUpdateInput!]!", "$x: Int").replace(
        "$u", '[{sku: "A", warehouseId: "w", reason: "loss", change: {quantity: 1, delta: 1}}]'
    )
    answer = await service.graphql(literal)
    assert "exactly one" in answer["errors"][0]["message"]


async def test_introspection_shows_one_of_inputs_and_the_specification_of_scalars(
    service: Service,
) -> None:
    types = (await service.data(ONE_OF))["__schema"]["types"]

    assert {type_["name"] for type_ in types if type_["isOneOf"]} == {
        "QuantityChangeInput",
        "ReversalTargetInput",
    }
    own = {"Quantity", "DateTime", "DateOrDateTime", "TimeZone"}
    found = {type_["name"] for type_ in types if type_["specifiedByURL"]}
    assert found == own
