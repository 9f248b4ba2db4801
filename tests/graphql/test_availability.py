"""The availability that a shop's frontend sees: up to the limit of the tenant, and nothing else."""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, get_named_type, is_leaf_type

from app.domain.availability import AvailabilityRecord, availability_of
from app.domain.caller import Scope
from app.domain.quantities import MAX_QUANTITY, Status
from app.errors import NotFound, ValidationFailed
from app.graphql.schema.scopes import SCOPES
from app.writes.tenants import create_token, set_availability_limit
from tests.graphql.operations import refusals
from tests.graphql.test_schema import OBJECTS, TYPES
from tests.service import EMAIL, Service, level, new_tenant, sku, warehouse

SHOP: Final = "availability"
MAIN: Final = warehouse("Main")
FIELDS: Final = "sku title status isInStock available isLimited"
LIST: Final = (
    "query ($first: Int! = 50, $after: String, $where: AvailabilityFilterInput) "
    "{ availabilities(first: $first, after: $after, filter: $where) "
    f"{{ nodes {{ {FIELDS} }} pageInfo {{ hasNextPage endCursor }} }} }}"
)
ONE: Final = f"query ($sku: String!) {{ availability(sku: $sku) {{ {FIELDS} }} }}"
ARCHIVE: Final = 'mutation { archiveSku(input: {sku: "OLD"}) { sku { sku } } }'


@pytest.fixture
async def shop(service: Service) -> Service:
    """Load SKUs whose available quantities are below, at and above the limit."""
    levels = {
        "EVEN": level(MAIN, 10),
        "FEW": level(MAIN, 12, reserved=2, safety_stock=7),
        "HELD": level(MAIN, 5, safety_stock=20),
        "MANY": level(MAIN, MAX_QUANTITY),
        "OLD": level(MAIN, 0),
        "OVERSOLD": level(MAIN, 3, reserved=9),
    }
    skus = [sku(code, each, title=f"Red {code.lower()}") for code, each in levels.items()]
    await service.load([MAIN], [*skus, sku("NONE")])
    await service.data(ARCHIVE, token="admin")
    return service


async def listed(shop: Service, **where: object) -> list[str]:
    """List the codes that match a filter."""
    data = await shop.data(LIST, {"where": where}, token=SHOP)
    return [node["sku"] for node in data["availabilities"]["nodes"]]


async def quantities(shop: Service) -> dict[str, tuple[bool, int, bool]]:
    """List in stock, available and limited by code."""
    data = await shop.data(LIST, token=SHOP)
    return {
        node["sku"]: (node["isInStock"], node["available"], node["isLimited"])
        for node in data["availabilities"]["nodes"]
    }


@pytest.mark.parametrize(
    ("available", "limit", "expected"),
    [
        (-1, 10, (False, 0, False)),
        (0, 10, (False, 0, False)),
        (1, 10, (True, 1, False)),
        (9, 10, (True, 9, False)),
        (10, 10, (True, 10, True)),
        (11, 10, (True, 10, True)),
        (0, 0, (False, 0, False)),
        (5, 0, (True, 0, True)),
    ],
)
def test_a_quantity_is_shown_from_0_to_the_limit(
    available: int, limit: int, expected: tuple[bool, int, bool]
) -> None:
    record = availability_of("A", "T", Status.LOW, available, limit=limit)

    assert record == AvailabilityRecord("A", "T", Status.LOW, *expected)


def test_the_scope_reaches_these_fields_and_no_others() -> None:
    reached: dict[str, set[str]] = {}
    roots = [
        OBJECTS[root].fields[name]
        for root, scopes in SCOPES.items()
        for name, scope in scopes.items()
        if scope is Scope.AVAILABILITY and name != "__typename"
    ]
    waiting: list[Any] = [field.type for field in roots]
    while waiting:
        type_ = get_named_type(waiting.pop())
        if not is_leaf_type(type_) and type_.name not in reached:
            assert isinstance(type_, GraphQLObjectType)
            reached[type_.name] = set(type_.fields)
            waiting += [field.type for field in type_.fields.values()]

    assert reached == {
        "Availability": set(FIELDS.split()),
        "AvailabilityChange": {"sku", "availability"},
        "AvailabilityPage": {"nodes", "pageInfo"},
        "PageInfo": {"hasNextPage", "hasPreviousPage", "startCursor", "endCursor"},
    }


def test_no_filter_and_no_order_compares_exact_quantities() -> None:
    fields: Mapping[str, Any] = OBJECTS["Query"].fields
    where = TYPES["AvailabilityFilterInput"]
    assert isinstance(where, GraphQLInputObjectType)

    assert set(fields["availabilities"].args) == {"first", "after", "filter"}
    assert set(fields["availability"].args) == {"sku"}
    assert set(where.fields) == {"skus", "text"}


async def test_a_shop_sees_quantities_up_to_the_limit_and_no_archived_sku(shop: Service) -> None:
    assert await quantities(shop) == {
        "EVEN": (True, 10, True),
        "FEW": (True, 3, False),
        "HELD": (False, 0, False),
        "MANY": (True, 10, True),
        "NONE": (False, 0, False),
        "OVERSOLD": (False, 0, False),
    }
    one = await shop.data(ONE, {"sku": "FEW"}, token=SHOP)
    assert one["availability"] == {
        "sku": "FEW",
        "title": "Red few",
        "status": "LOW",
        "isInStock": True,
        "available": 3,
        "isLimited": False,
    }
    for code in ("OLD", "few", "UNKNOWN", "\x00"):
        assert await shop.data(ONE, {"sku": code}, token=SHOP) == {"availability": None}


async def test_the_limit_belongs_to_one_tenant(shop: Service) -> None:
    other = Service(shop.app, shop.client, shop.database, await new_tenant(shop.database))
    await set_availability_limit(shop.database, other.tenant_id, 0)
    assert (await quantities(shop))["MANY"] == (True, 10, True)

    await set_availability_limit(shop.database, shop.tenant_id, 5_000)
    found = await quantities(shop)
    assert (found["MANY"], found["EVEN"]) == ((True, 5_000, True), (True, 10, False))
    await set_availability_limit(shop.database, shop.tenant_id, 0)
    found = await quantities(shop)
    assert (found["MANY"], found["NONE"]) == ((True, 0, True), (False, 0, False))
    for limit in (-1, MAX_QUANTITY + 1):
        with pytest.raises(ValidationFailed):
            await set_availability_limit(shop.database, shop.tenant_id, limit)
    with pytest.raises(NotFound):
        await set_availability_limit(shop.database, "nobody", 1)


async def test_pages_filters_and_cursors_of_the_list(shop: Service) -> None:
    codes: list[str] = []
    after = None
    while True:
        page = await shop.data(LIST, {"first": 2, "after": after}, token=SHOP)
        info = page["availabilities"]["pageInfo"]
        codes += [node["sku"] for node in page["availabilities"]["nodes"]]
        if not info["hasNextPage"]:
            break
        after = info["endCursor"]
    assert codes == ["EVEN", "FEW", "HELD", "MANY", "NONE", "OVERSOLD"]
    assert await listed(shop, text="red") == ["EVEN", "FEW", "HELD", "MANY", "OVERSOLD"]
    assert await listed(shop, text="ma") == ["MANY"]
    assert await listed(shop, text="old") == []
    assert await listed(shop, skus=["MANY", "OLD", "EVEN", "\x00", "x", "EVEN"]) == ["EVEN", "MANY"]
    assert await listed(shop, skus=["MANY", "NONE"], text="red") == ["MANY"]

    bad: list[tuple[dict[str, object], str]] = [
        ({"after": after, "where": {"text": "red"}}, "INVALID_CURSOR"),
        ({"after": "cursor_AAAA"}, "INVALID_CURSOR"),
        ({"first": 201}, "VALIDATION_ERROR"),
        ({"first": 0}, "VALIDATION_ERROR"),
        ({"where": {"skus": []}}, "VALIDATION_ERROR"),
        ({"where": {"skus": ["x"] * 201}}, "VALIDATION_ERROR"),
        ({"where": {"text": ""}}, "VALIDATION_ERROR"),
    ]
    for variables, code in bad:
        answer = await shop.graphql(LIST, variables, token=SHOP)
        assert refusals(answer) == [(422, code)], variables


async def test_nothing_beside_availability_is_in_reach_of_the_scope(shop: Service) -> None:
    mixed = '{ availability(sku: "MANY") { sku } ...S } fragment S on Query { skus { totalCount } }'
    for query in (
        mixed,
        '{ node(id: "sku_MANY") { ... on Sku { totalAvailable } } }',
        "{ __schema { types { name } } }",
        "{ ...S } fragment S on Query { ... @skip(if: true) { skus { totalCount } } }",
    ):
        assert refusals(await shop.graphql(query, token=SHOP)) == [(403, "INSUFFICIENT_SCOPE")]
    answer = await shop.graphql('{ availability(sku: "MANY") { totalAvailable } }', token=SHOP)
    assert refusals(answer) == [(422, "VALIDATION_ERROR")]


async def test_another_scope_beside_it_keeps_its_rights(shop: Service) -> None:
    made = await create_token(
        shop.database,
        shop.tenant_id,
        name="both",
        email=EMAIL,
        scopes=[Scope.AVAILABILITY, Scope.READ],
    )

    data = await shop.data('{ sku(sku: "MANY") { totalAvailable } }', token=made.token)
    assert data == {"sku": {"totalAvailable": MAX_QUANTITY}}
    assert await shop.data("{ __typename }", token=SHOP) == {"__typename": "Query"}
