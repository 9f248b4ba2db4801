"""The columnar executor gives the same data and errors, in the same order, as graphql-core."""

import asyncio
import gc
import json
import random
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import pytest
import strawberry
from graphql import (
    DocumentNode,
    ExecutionResult,
    OperationDefinitionNode,
    parse,
    validate,
)
from graphql.execution.collect_fields import FieldDetails

from app.auth.tokens import Authenticator
from app.database.compilation import AnyRow, Parameters, Statement
from app.database.engine import Database
from app.database.snapshot import Snapshot
from app.errors import Unavailable
from app.graphql.columnar import ColumnarExecutor, OperationPlans
from app.graphql.columnar.context import ColumnarContext
from app.graphql.columnar.plan import SelectionPlan
from app.graphql.limits import is_conditional
from app.graphql.schema.budget import Budget
from app.graphql.schema.context import Context
from app.graphql.schema.schema import schema
from tests.effort import EFFORT
from tests.graphql.generating import Document, Values
from tests.graphql.model import CODES, REASONS, catalogue
from tests.graphql.toy import TOY, TOY_VALUES, UNLIMITED, ToyContext
from tests.service import EMAIL, Service, running

# A coroutine that a failed sibling leaves behind is never awaited; graphql-core does the same.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def no_coroutines_are_left() -> Iterator[None]:
    """Collect coroutines that were never awaited while their warnings are ignored."""
    yield
    gc.collect()


# The number of documents; each is executed twice.
TOY_CASES: Final = 600 * EFFORT
REAL_CASES: Final = 200 * EFFORT


class RememberedSnapshot(Snapshot):
    """Repeats the rows of earlier statements without the database.

    If several fields fail below one nullable field, the first error cancels the others. The order
    of errors must not depend on the database, so that both executions can be compared.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database, single=False)
        self._known: dict[Hashable, Sequence[AnyRow]] = {}
        self.has_missed = True

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        key = id(statement), repr(parameters)
        if key not in self._known:
            self.has_missed = True
            try:
                await super().rows(statement, parameters)
            except Unavailable as error:
                # Otherwise the statement would be repeated forever.
                pytest.fail(str(error))
        await asyncio.sleep(0)
        return self._known[key]

    async def _rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        rows = await super()._rows(statement, parameters)
        self._known[id(statement), repr(parameters)] = rows
        return rows


class Unlimited(Budget):
    """Affords the same at any time, so that statements are repeated with equal limits."""

    def affordable(self, each: int) -> int:
        return self.limit // each


async def execute(
    schema_: strawberry.Schema,
    node: DocumentNode,
    variables: Mapping[str, object],
    context: ColumnarContext,
) -> ExecutionResult:
    return await ColumnarExecutor.run(
        schema_, node, variables=variables, operation_name=None, context=context
    )


def plans_of(node: DocumentNode) -> OperationPlans | None:
    """Create the plans of a document's operation as the service does."""
    [operation] = (
        definition
        for definition in node.definitions
        if isinstance(definition, OperationDefinitionNode)
    )
    return None if is_conditional(node, operation) else OperationPlans()


def variables_of(document: Document, dice: random.Random) -> list[dict[str, object]]:
    """Draw variables for two executions; some of the second are missing or invalid."""
    others: dict[str, object] = {}
    for name, value in document.variables.items():
        if dice.random() < 0.9:
            others[name] = dice.choice([5, "A", None, [], {}]) if dice.random() < 0.1 else value
    return [document.variables, others]


def rendered(result: ExecutionResult) -> str:
    """Render data and errors, with keys in their order."""
    return json.dumps(result.formatted)


async def test_random_queries_of_a_hostile_schema_equal_graphql_core() -> None:
    covered = failed = bound = 0
    for seed in range(TOY_CASES):
        document = Document(TOY._schema, TOY_VALUES, random.Random(seed))
        node = parse(document.text)
        # A sample: it takes as long as executing both ways.
        if seed % 5 == 0:
            assert validate(TOY._schema, node) == [], document.text
        plans = plans_of(node)
        for variables in variables_of(document, random.Random(seed)):
            context = ToyContext(columnar=True, plans=plans)
            columnar = await execute(TOY, node, variables, context)
            if variables is document.variables or variables != document.variables:
                plain = await execute(TOY, node, variables, ToyContext(columnar=False))
            assert rendered(columnar) == rendered(plain), (
                f"seed {seed}: {document.text} {variables}"
            )
            covered += context.has_columns
            failed += bool(plain.errors)
        if plans is not None:
            assert plans.prepared is not None
            bound += any(plans.of_fields.values())

    cases = 2 * TOY_CASES
    assert covered > cases * 0.7
    assert bound > cases * 0.08
    assert cases * 0.2 < failed < cases * 0.7


async def test_random_queries_of_the_service_equal_graphql_core(
    service: Service, engine: str
) -> None:
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    values = await real_values(service, [warehouse.id for warehouse in model.warehouses])
    authenticator = Authenticator(service.database, cache_seconds=0)
    principal = await authenticator.authenticate(f"Bearer {service.token('read')}")
    covered = failed = bound = 0
    # Each engine has its own documents.
    first = REAL_CASES * (engine == "postgresql")
    for seed in range(first, first + REAL_CASES):
        document = Document(schema._schema, values, random.Random(seed))
        node = parse(document.text)
        assert validate(schema._schema, node) == [], document.text
        plans = plans_of(node)
        snapshot = RememberedSnapshot(service.database)
        new_context = partial(
            Context, principal, service.database, snapshot, budget=Unlimited(UNLIMITED)
        )
        for variables in variables_of(document, random.Random(seed)):
            if variables is document.variables or variables != document.variables:
                snapshot.has_missed = True
            while snapshot.has_missed:
                snapshot.has_missed = False
                plain = await execute(schema, node, variables, new_context(columnar=False))
            context = new_context(columnar=True, plans=plans)
            columnar = await execute(schema, node, variables, context)
            assert rendered(columnar) == rendered(plain), (
                f"seed {seed}: {document.text} {variables}"
            )
            covered += context.has_columns
            failed += bool(plain.errors)
        if plans is not None:
            assert plans.prepared is not None
            bound += any(plans.of_fields.values())
        await snapshot.close()

    cases = 2 * REAL_CASES
    assert covered > cases * 0.35
    assert bound > cases * 0.08
    assert cases * 0.05 < failed < cases * 0.7


async def real_values(service: Service, warehouse_ids: Sequence[str]) -> Values:
    """Read values for arguments; most of them exist."""
    data = await service.data(
        "{ skus { edges { cursor node { id stock { id } adjustments(first: 1) { "
        "edges { cursor node { id } } } } } } adjustments(first: 5) { edges { cursor } } }"
    )
    edges = data["skus"]["edges"]
    ids = [edge["node"]["id"] for edge in edges]
    ids += [level["id"] for edge in edges for level in edge["node"]["stock"]]
    entries = [entry for edge in edges for entry in edge["node"]["adjustments"]["edges"]]
    ids += [entry["node"]["id"] for entry in entries]
    cursors = [edge["cursor"] for edge in [*edges, *data["adjustments"]["edges"], *entries]]

    def mostly(known: Sequence[str]) -> Callable[[random.Random], object]:
        return lambda dice: dice.choice(known) if dice.random() < 0.9 else "nothing"

    def seldom(known: Sequence[str]) -> Callable[[random.Random], object]:
        return lambda dice: dice.choice(known) if dice.random() < 0.1 else None

    return {
        "id": mostly([*ids, *warehouse_ids]),
        "ids": lambda dice: dice.sample([*ids, *warehouse_ids, "nothing"], 3),
        "codes": lambda dice: dice.sample([*CODES, "nothing"], 3),
        "codePrefix": seldom(["A", "S"]),
        "text": seldom(["a", "thing", "-"]),
        "updatedSince": seldom(["2026-03-10", "2099-01-01"]),
        "warehouseId": mostly(warehouse_ids),
        "webhookId": mostly(["whk_01HX0000000000000000000001"]),
        "sku": mostly(CODES),
        "reason": mostly(REASONS),
        "first": lambda dice: dice.choice((1, 2, 3, 5)) if dice.random() < 0.98 else 0,
        "after": seldom(cursors),
        "after: Quantity": lambda dice: dice.choice((None, None, 0, 1)),
        "warehouseIds": lambda dice: dice.choice((None, warehouse_ids[:1])),
        "from": lambda dice: dice.choice(("2026-03-10", "2026-03-11T05:30:00Z")),
        "to": lambda dice: dice.choice(("2026-03-12", "2026-03-11T15:00:00Z", "2026-05-01")),
        "at": lambda dice: dice.choice(("2026-03-10", "2026-03-11T05:00:00Z")),
        "createdBy": mostly([EMAIL]),
        "namespace": lambda _: "erp",
        "value": mostly(["100"]),
        "startDate": seldom(["2026-03-10", "2026-03-11T05:00:00Z"]),
        "endDate": seldom(["2026-03-12"]),
    }


async def test_values_of_records_are_read_by_generated_code(
    service: Service,
) -> None:
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    authenticator = Authenticator(service.database, cache_seconds=0)
    principal = await authenticator.authenticate(f"Bearer {service.token('read')}")
    plans = OperationPlans()
    async with service.database.snapshot() as snapshot:
        context = Context(
            principal,
            service.database,
            snapshot,
            budget=Budget(UNLIMITED),
            columnar=True,
            plans=plans,
        )
        node = parse(
            "{ skus { nodes { sku __typename isArchived status archivedAt "
            "stock { available warehouse { type } } adjustments(first: 1) { totalCount } } } }"
        )
        result = await execute(schema, node, {}, context)

    assert result.errors is None
    selections: Any = plans.of_selections
    fields = {type_.name: [*plan.fields] for (type_, *_), plan in selections.items()}
    assert fields["Sku"] == ["isArchived", "adjustments"]
    assert "StockLevel" not in fields


@pytest.mark.parametrize("is_on", [True, False])
async def test_without_columnar_execution_graphql_core_completes_lists(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch, *, is_on: bool
) -> None:
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    completed: list[object] = []
    complete = SelectionPlan.complete

    def recorded(self: Any, *arguments: Any) -> Any:
        completed.append(arguments)
        return complete(self, *arguments)

    monkeypatch.setattr(SelectionPlan, "complete", recorded)
    query = "{ skus { nodes { sku stock { onHand warehouse { name } } } } }"
    async with running(database_url, columnar=is_on) as (app, client):
        mine = Service(app, client, service.database, service.tenant_id)
        data = await mine.data(query)

    assert [node["sku"] for node in data["skus"]["nodes"]] == CODES
    assert bool(completed) is is_on


async def test_a_field_with_arguments_completes_for_all_objects_at_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    completed: list[int] = []
    complete = SelectionPlan.complete

    def recorded(self: Any, execution: Any, objects: list[Any], *arguments: Any) -> Any:
        completed.append(len(objects))
        return complete(self, execution, objects, *arguments)

    monkeypatch.setattr(SelectionPlan, "complete", recorded)
    data = await service.data(
        '{ skus { nodes { stockAsOf(at: "2026-06-01") { totalOnHand levels { onHand } } } } }'
    )

    levels = sum(len(node["stockAsOf"]["levels"]) for node in data["skus"]["nodes"])
    # The page, its SKUs, and their stock and levels.
    assert completed == [1, len(CODES), len(CODES), levels]


class Note(str):
    """A text that weak references can point to."""

    __slots__ = ("__weakref__",)


async def test_plans_keep_no_context_and_no_variables(service: Service) -> None:
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    authenticator = Authenticator(service.database, cache_seconds=0)
    principal = await authenticator.authenticate(f"Bearer {service.token('write')}")
    plans = OperationPlans()
    node = parse(
        "mutation ($input: SetStockInput!) { setStock(input: $input) "
        "{ sku { adjustments(first: 1) { nodes { note } } } } }"
    )
    level = {"sku": CODES[0], "warehouseId": model.warehouses[0].id, "reason": "cycle_count"}

    async def write(times: int) -> tuple[int, list[object]]:
        references: list[weakref.ref[Any]] = []
        for quantity in range(times):
            note = Note(f"number {quantity}")
            change = {**level, "quantity": quantity, "note": note}
            async with service.database.snapshot() as snapshot:
                context = Context(
                    principal,
                    service.database,
                    snapshot,
                    budget=Budget(UNLIMITED),
                    columnar=True,
                    plans=plans,
                )
                result = await execute(schema, node, {"input": change}, context)
            assert result.errors is None
            references += [weakref.ref(context), weakref.ref(note)]
            del context, note, change, result, snapshot
        gc.collect()
        fields = sum(isinstance(kept, FieldDetails) for kept in gc.get_objects())
        return fields, [kept for reference in references if (kept := reference()) is not None]

    fields, kept = await write(3)
    assert kept == []
    assert await write(10) == (fields, [])
