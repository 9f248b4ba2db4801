"""The cost of a response is bounded: an execution stops when its budget is spent."""

import importlib
import random
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import pytest

from app.domain.records import SkuRecord
from app.graphql.columnar.executor import BudgetedExecutor
from app.graphql.columnar.plan import SelectionPlan
from app.graphql.schema import text_search
from app.graphql.schema.budget import (
    AWAITED_COST,
    FIELD,
    INPUT_COST,
    LEVEL_COST,
    LINE_COST,
    STATEMENT_COST,
    WRITE_COST,
    Budget,
)
from app.graphql.schema.dataloaders import Loaders
from app.reads import reservations
from app.reads import skus as queries
from app.reads.sku_words import list_codes_with_word
from app.reads.skus import sku_records
from tests.graphql.operations import refusal
from tests.graphql.recorder import recorded
from tests.security.bombs import INVALID, TOO_COMPLEX
from tests.security.costs import REFERENCE, Composer, Shape, fill
from tests.service import Service, level, new_tenant, running, sku, warehouse

# A stopped execution leaves a coroutine that is never awaited, as in graphql-core.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine", "ignore::pytest.PytestUnraisableExceptionWarning"
)
# The package has a function of the same name.
validation: Any = importlib.import_module("graphql.utilities.validate_input_value")
SHAPE: Final = Shape(warehouses=20, ordinary=60, wide=20, reservations=3, history=80, changes=1_000)
LIMIT: Final = 4_000
CHANGE: Final = (
    "mutation ($u: [StockUpdateInput!]!) { a: bulkSetStock(input: {updates: $u}) { total } "
    "b: bulkSetStock(input: {updates: $u}) { total } }"
)


def nested(times: int, outer: str, inner: str, leaf: str) -> str:
    return f"{outer} {{ {inner} {{ " * times + leaf + " } }" * times


TOO_LARGE: Final = {
    "levels in levels": '{{ sku(sku: "W000") {{ {} }} }}'.format(nested(4, "stock", "sku", "sku")),
    "lines in lines": "{{ reservations(first: 1) {{ nodes {{ {} }} }} }}".format(
        nested(4, "lines", "reservation", "id")
    ),
    "a page of SKUs of many levels": "{ skus(first: 20, orderBy: SKU_DESC) { nodes { "
    "stock { available reserved onHand warehouse { name } } } } }",
    "pages of SKUs that show no level": "{{ {} }}".format(
        " ".join(f"a{n}: skus(orderBy: SKU_DESC) {{ nodes {{ sku }} }}" for n in range(9))
    ),
    "ledgers of many SKUs": "{ skus(first: 60) { nodes { adjustments(first: 9) { nodes { id } } } } }",
    "sums": "{ skus(first: 50) { nodes { adjustments(first: 1) { totals { entries } } } } }",
    "a search by text": '{ skus(filter: {text: "w"}) { nodes { sku } } }',
    "counts of levels by prefix": '{ warehouses { stock(first: 1, filter: {codePrefix: "W"}) '
    "{ totalCount } } }",
    "counts of levels by time": '{ warehouses { stock(first: 1, filter: {updatedSince: "2026-01-01"'
    "}) { totalCount } } }",
    "counts": "{ skus(first: 50) { nodes { adjustments(first: 1) { totalCount } } } }",
    "filtered pages by quantity": '{ skus(first: 1, orderBy: AVAILABLE_ASC, filter: {codePrefix: "W"})'
    " { nodes { sku } } }",
    "series": '{ skus(first: 20) { nodes { stockHistory(from: "2026-01-01", to: "2026-02-01", '
    "interval: DAY) { opening } } } }",
    "totals of a ledger without rollups": "{{ {} }}".format(
        " ".join(f"a{n}: adjustments(first: 1) {{ totals {{ entries }} }}" for n in range(6))
    ),
    "errors of many fields": "{{ skus(first: 20) {{ nodes {{ {} }} }} }}".format(
        " ".join(f"a{n}: adjustments(first: 1000) {{ totalCount }}" for n in range(9))
    ),
    "lines that are not selected": "{ reservations(first: 1) { totalCount } }",
    "nodes by id": "{{ nodes(ids: [{}]) {{ id }} }}".format(
        ", ".join(f'"sku_A{n:04d}"' for n in range(200))
    ),
    "long texts": '{ sku(sku: "LONG") { adjustments(first: 200) { nodes { note } } } }',
    "texts that levels share": "{ warehouses { stock { nodes { warehouse { name address } } } } }",
    "the schema": "{ __schema { types { kind description fields { description name args { name type { name } } } } } }",
}


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[Service]:
    """Service with a small limit, on a tenant with expensive data."""
    async with running(database_url, max_answer_cost=LIMIT) as (app, client):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await fill(service, SHAPE)
        yield service


async def test_an_execution_over_its_budget_is_stopped(small: Service) -> None:
    for name, query in TOO_LARGE.items():
        answer = await small.graphql(query)
        assert refusal(answer) == (422, TOO_COMPLEX), name
        assert "data" not in answer, name


async def test_a_small_answer_is_not_refused(small: Service) -> None:
    await small.data("{ skus(first: 20) { totalCount nodes { sku stock { available } } } }")
    await small.data('{ sku(sku: "W000") { stock { available warehouse { id } } } }')
    # Each open reservation has 120 lines, which are read and charged.
    await small.data(
        "{ warehouses { id } reservations(first: 1, filter: {status: RELEASED}) { totalCount } }"
    )
    # The limit allows 4,000 adjustments; the response has one.
    await small.data(
        '{ a: sku(sku: "A0000") { adjustments(first: 200) { nodes { id } } } '
        'b: sku(sku: "A0001") { adjustments(first: 200) { nodes { id } } } }'
    )


@pytest.fixture
def read_lines(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the lines of each statement that reads reservations."""
    read: list[int] = []
    check = reservations.within_line_limit

    def counted(rows: Sequence[Any], most_lines: int) -> Any:
        read.append(len(rows))
        return check(rows, most_lines)

    monkeypatch.setattr(reservations, "within_line_limit", counted)
    return read


async def test_no_statement_begins_after_one_that_spent_the_budget(
    small: Service, read_lines: list[int]
) -> None:
    aliases = " ".join(f"a{n}: reservations(first: 2) {{ totalCount }}" for n in range(6))
    answer = await small.graphql(f"{{ {aliases} }}")

    assert refusal(answer) == (422, TOO_COMPLEX)
    assert len(read_lines) == 1


async def test_a_list_is_planned_by_what_the_lists_before_it_left(
    database_url: str, small: Service, read_lines: list[int]
) -> None:
    async with running(database_url, max_answer_cost=7_000) as (app, client):
        service = Service(app, client, app.state.database, small.tenant_id)
        aliases = " ".join(f"a{n}: reservations(first: 1) {{ totalCount }}" for n in range(3))
        answer = await service.graphql(f"{{ {aliases} }}")

    assert refusal(answer) == (422, TOO_COMPLEX)
    # Two reservations of 120 lines, and then one line more than the rest of the budget.
    assert read_lines[0] == 240
    assert len(read_lines) == 2
    assert sum(read_lines) <= 7_000 / LINE_COST + 1


async def test_the_titles_that_a_search_compares_are_charged(
    database_url: str, small: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def some_are_frequent(*arguments: Any, word: str) -> set[str] | None:
        if word in ("th", "w"):
            return None
        return await list_codes_with_word(*arguments, word=word)

    monkeypatch.setattr(text_search, "list_codes_with_word", some_are_frequent)
    async with running(database_url, max_answer_cost=13_000) as (app, client):
        service = Service(app, client, app.state.database, small.tenant_id)
        search = '{{ skus(first: 1, filter: {{text: "{}"}}) {{ nodes {{ sku }} }} }}'.format
        # The titles of the first ones are short, those of the others long.
        assert (await service.data(search("a0 th")))["skus"]["nodes"] == [{"sku": "A0000"}]
        assert refusal(await service.graphql(search("w0 w"))) == (422, TOO_COMPLEX)


async def test_the_work_done_before_an_execution_stops_is_within_the_limit(
    small: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed = executed = levels = 0
    complete, execute, read = SelectionPlan.complete, BudgetedExecutor.execute_field, sku_records

    def completing(self: SelectionPlan, executor: Any, objects: Any, path: Any) -> Any:
        nonlocal completed
        rows = complete(self, executor, objects, path)
        completed += len(objects)
        return rows

    def executing(self: Any, *arguments: Any) -> Any:
        nonlocal executed
        executed += 1
        return execute(self, *arguments)

    def reading(row: Any, **options: Any) -> list[SkuRecord]:
        nonlocal levels
        records = read(row, **options)
        levels += sum(len(record.levels) for record in records)
        return records

    monkeypatch.setattr(SelectionPlan, "complete", completing)
    monkeypatch.setattr(BudgetedExecutor, "execute_field", executing)
    monkeypatch.setattr(queries, "sku_records", reading)
    for seed in range(60):
        query = Composer(random.Random(seed), SHAPE).query()
        completed = executed = levels = 0
        with recorded() as recorder:
            await small.graphql(query.text, query.variables)
        assert completed <= LIMIT, query.text
        assert executed <= LIMIT / FIELD, query.text
        assert levels * LEVEL_COST <= LIMIT + SHAPE.warehouses * LEVEL_COST, query.text
        assert len(recorder) <= LIMIT / STATEMENT_COST + 2, query.text


async def test_lists_in_lists_are_begun_for_as_many_objects_as_the_budget_affords(
    small: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0
    holds_of = Loaders.holds

    def counted(self: Loaders, *arguments: Any) -> Any:
        nonlocal begun
        begun += 1
        return holds_of(self, *arguments)

    monkeypatch.setattr(Loaders, "holds", counted)
    lists = " ".join(
        f"a{n}: reservations(first: 1) {{ pageInfo {{ hasNextPage }} }}" for n in range(9)
    )
    query = f"{{ skus(first: 2, orderBy: SKU_DESC) {{ nodes {{ stock {{ {lists} }} }} }} }}"
    result = await small.graphql(query)

    assert refusal(result) == (422, TOO_COMPLEX)
    assert 0 < begun <= LIMIT / AWAITED_COST


async def test_a_page_of_too_many_levels_is_not_read(
    small: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        pytest.fail("levels were read")

    monkeypatch.setattr(queries, "sku_records", fail)
    monkeypatch.setattr(Budget, "affordable", lambda _self, each: 100 // each)
    answer = await small.graphql("{ skus(first: 20, orderBy: SKU_DESC) { nodes { sku } } }")

    assert refusal(answer) == (422, TOO_COMPLEX)


async def test_too_many_items_are_refused_before_the_first_write(small: Service) -> None:
    updates = [
        {
            "sku": f"A{n:04d}",
            "warehouseId": (await first_warehouse(small)),
            "change": {"quantity": 3},
        }
        for n in range(667)
    ]
    updates = [{**it, "reason": "count"} for it in updates]

    answer = await small.graphql(CHANGE, {"u": updates})
    counted = await small.data('{ adjustments(filter: {reason: "count"}) { totalCount } }')

    assert refusal(answer) == (422, TOO_COMPLEX)
    assert counted["adjustments"]["totalCount"] == 0
    assert WRITE_COST < INPUT_COST


async def test_no_write_follows_a_spent_budget(small: Service) -> None:
    warehouse_id = await first_warehouse(small)
    aliases = (f"s{n}: stock {{ warehouse {{ name address }} }}" for n in range(20))
    large = f"skus {{ {' '.join(aliases)} }}"
    update = '{sku: "%s", warehouseId: "%s", change: {quantity: 3}, reason: "count"}'
    first, second = update % ("W000", warehouse_id), update % ("W001", warehouse_id)

    answer = await small.graphql(
        f"mutation {{ a: bulkSetStock(input: {{updates: [{first}]}}) {{ {large} }} "
        f"b: bulkSetStock(input: {{updates: [{second}]}}) {{ total }} }}"
    )
    ledger = await small.data(
        '{ adjustments(filter: {reason: "count"}) { nodes { sku { sku } } } }'
    )

    assert answer["errors"][0]["extensions"]["code"] == TOO_COMPLEX
    assert "before this point are committed" in answer["errors"][0]["message"]
    assert [node["sku"]["sku"] for node in ledger["adjustments"]["nodes"]] == ["W000"]


async def first_warehouse(service: Service) -> str:
    result: str = (await service.data("{ warehouses { id } }"))["warehouses"][0]["id"]
    return result


async def test_the_reference_and_full_pages_are_answered(service: Service) -> None:
    warehouses = [warehouse(f"W{n}") for n in range(5)]
    codes = [f"S{n:03d}" for n in range(500)]
    await service.load(
        warehouses, [sku(code, *(level(record, 9) for record in warehouses)) for code in codes]
    )
    updates = [
        {"sku": code, "warehouseId": warehouses[0].id, "change": {"quantity": 5}, "reason": "count"}
        for code in codes
    ]

    await service.data(REFERENCE)
    page = await service.rest("GET", "/api/inventory?limit=200")
    bulk = await service.data(
        "mutation ($u: [StockUpdateInput!]!) { bulkSetStock(input: {updates: $u}) { succeeded "
        "results { index sku warehouseId status adjustment { id delta reason note createdBy } } "
        "skus { sku totalOnHand stock { available warehouse { name } } } } }",
        {"u": updates},
    )

    assert len(page.json()["data"]) == 200
    assert bulk["bulkSetStock"]["succeeded"] == 500


FILTER: Final = "query ($f: SkuFilterInput) { skus(filter: $f) { totalCount } }"
VARIABLES: Final[list[tuple[str, Mapping[str, object]]]] = [
    (FILTER, {"f": {f"statuS{n}": 1 for n in range(19_000)}}),
    (FILTER, {"f": {"sku": {f"statuS{n}": 1 for n in range(19_000)}}}),
    (FILTER, {"f": {"K" * 100_000: 1, "status": {"x": [{"y": 1}] * 900}}}),
    (
        "mutation ($u: [StockUpdateInput!]!) { bulkSetStock(input: {updates: $u}) { total } }",
        {"u": [{f"n{n}": n for n in range(12)}] * 900},
    ),
]


@pytest.mark.parametrize("suggestions", [True, False])
async def test_oversized_variables_are_refused_in_linear_time(
    database_url: str, service: Service, monkeypatch: pytest.MonkeyPatch, *, suggestions: bool
) -> None:
    inspected = suggested = 0
    inspect, suggest = validation.inspect, validation.suggestion_list

    def inspecting(value: object) -> str:
        nonlocal inspected
        inspected += 1
        return str(inspect(value))

    def suggesting(name: str, options: list[str]) -> list[str]:
        nonlocal suggested
        suggested += 1
        return list(suggest(name, options))

    monkeypatch.setattr(validation, "inspect", inspecting)
    monkeypatch.setattr(validation, "suggestion_list", suggesting)
    async with running(database_url, suggestions=suggestions) as (app, client):
        limited = Service(app, client, service.database, service.tenant_id)
        for query, variables in VARIABLES:
            inspected = suggested = 0
            response = await limited.rest(
                "POST", "/graphql", json={"query": query, "variables": variables}
            )
            assert response.json()["errors"][0]["extensions"]["code"] == INVALID
            assert len(response.content) < 500_000
            assert inspected <= 1_100
            assert suggested <= 1_100


@pytest.mark.parametrize(
    "query", ["{ __typename }", 'query ($x: ID) { node(id: "a") { id } a: node(id: "b") { id } }']
)
async def test_a_long_key_is_not_copied_for_each_nested_object(
    service: Service, query: str
) -> None:
    variables: dict[str, object] = {"x": {"K" * 100_000: {str(n): {} for n in range(5_000)}}}

    tracemalloc.start()
    await service.graphql(query, variables)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 16 * 2**20
