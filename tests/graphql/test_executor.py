"""Lists completed in bulk are what graphql-core makes of them: data, errors, and their order."""

import asyncio
import enum
import gc
import json
import random
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Final, Self

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
from strawberry import Private

from app.auth.tokens import Authenticator
from app.database.compilation import AnyRow, Parameters, Statement
from app.database.engine import Database
from app.database.snapshot import Snapshot
from app.graphql.columnar.executor import (
    BATCH_RESOLVER,
    ColumnarContext,
    ColumnarExecutor,
    OperationPlans,
    SelectionPlan,
    execute_operation,
)
from app.graphql.limits import is_conditional
from app.graphql.schema.budget import Budget
from app.graphql.schema.context import Context
from app.graphql.schema.relay import object_from, objects_from, read_from
from app.graphql.schema.schema import schema
from tests.graphql.generating import Document, Values
from tests.graphql.model import CODES, REASONS, catalogue
from tests.service import EMAIL, Service, running

# A coroutine that a failed sibling leaves behind is never awaited; graphql-core does the same.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def no_coroutines_are_left() -> Iterator[None]:
    """Have them collected here, where they may be."""
    yield
    gc.collect()


UNLIMITED: Final = 10**12
# Documents, each of which is executed twice.
TOY_CASES: Final = 12_000
REAL_CASES: Final = 2_000
PARTS: Final = 4


@strawberry.enum
class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclass
class ToyContext:
    may_bulk: bool
    in_bulk: bool = False
    plans: OperationPlans | None = None
    budget: Budget = field(default_factory=lambda: Budget(UNLIMITED))

    def afresh(self) -> Self:
        return replace(self, in_bulk=False)


async def parents_of(nodes: Sequence[Any], _context: object) -> list[Any]:
    await asyncio.sleep(0)
    if any(node.number == 11 for node in nodes):
        message = "11 has no parent"
        raise ValueError(message)
    return [TREES[node.number // 2] for node in nodes]


async def friends_of(nodes: Sequence[Any], _context: object) -> list[Any]:
    return [TREES[node.number - 1] if node.number % 3 else None for node in nodes]


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Stone(Named):
    weight: int | None


@strawberry.input
class Tone:
    times: int = 1
    colour: Colour | None = None


@dataclass
class Seed:
    weight: int | None
    colour: Any
    below: "list[Seed]"


@strawberry.type
class Acorn:
    """What is made of a seed. Those of tree 6 have no weight, of tree 10 a colour of no name."""

    record: Private[Seed]
    weight: int = read_from("record.weight", "")
    maybe_weight: int | None = read_from("record.weight", "")
    colour: Colour = read_from("record.colour", "")
    below: list["Acorn"] = objects_from("record.below", lambda record: Acorn(record=record), "")

    @strawberry.field
    def double(self) -> int | None:
        return self.record.weight and 2 * self.record.weight


def acorn_of(record: Seed) -> Acorn:
    return Acorn(record=record)


@strawberry.type
class Tree(Named):
    """Some of what it has cannot be said: number 7 has no name, number 9 a colour of no name."""

    seeds: Private[list[Seed]]
    best: Private[Seed | None]
    number: int
    acorns: list[Acorn] = objects_from("seeds", acorn_of, "")
    best_acorn: Acorn | None = object_from("best", acorn_of, "")
    colour: Colour
    maybe: str | None
    wide: float
    flags: list[bool]
    grid: list[list[int | None]]
    below: list["Tree"]
    maybe_below: list["Tree | None"] | None
    named: list[Named]

    @strawberry.field
    def shout(self, times: int = 1) -> str:
        if self.number == 5:
            message = "5 does not shout"
            raise ValueError(message)
        return self.name * times

    @strawberry.field
    async def whisper(self) -> str | None:
        await asyncio.sleep(0)
        if self.number == 4:
            message = "4 does not whisper"
            raise ValueError(message)
        return self.name.lower() if self.name else None

    @strawberry.field
    async def echo(self, times: int, tone: Tone | None = None, colour: Colour = Colour.RED) -> str:
        if times == self.number:
            message = f"{self.number} is not said so often"
            raise ValueError(message)
        told = [self.name] * times + ([f"{tone.colour} {tone.times}"] if tone else [])
        return ", ".join([*told, colour.value])

    @strawberry.field(metadata={BATCH_RESOLVER: parents_of})  # type: ignore[untyped-decorator]
    async def parent(self) -> "Tree":
        [found] = await parents_of([self], None)
        result: Tree = found
        return result

    @strawberry.field(metadata={BATCH_RESOLVER: friends_of})  # type: ignore[untyped-decorator]
    async def friend(self) -> "Tree | None":
        [found] = await friends_of([self], None)
        result: Tree | None = found
        return result

    @strawberry.field
    async def later(self) -> list["Tree"]:
        return self.below


def tree(number: int) -> Tree:
    weight = None if number == 6 else number
    colour = "blue" if number == 10 else Colour.RED
    seeds = [Seed(weight, colour, [Seed(1, Colour.GREEN, [])]) for _ in range(number % 3)]
    return Tree(
        seeds=seeds,
        best=seeds[0] if seeds else None,
        name=None if number == 7 else f"Tree {number}",  # type: ignore[arg-type]
        number=number,
        colour="blue" if number == 9 else Colour.GREEN,  # type: ignore[arg-type]
        maybe=None if number % 2 else "yes",
        wide=number / 2,
        flags=[True, False][: number % 3],
        grid=[[number, None], []],
        below=[],
        maybe_below=None,
        named=[],
    )


TREES: Final = [tree(number) for number in range(16)]
for _tree in TREES:
    children = [TREES[n] for n in (2 * _tree.number, 2 * _tree.number + 1) if 0 < n < len(TREES)]
    _tree.below = [child for child in children if child is not _tree]
    _tree.maybe_below = [None, *_tree.below] if _tree.number % 4 else None
    _tree.named = [Stone(name="Stone", weight=_tree.number), *_tree.below]


@strawberry.type
class Query:
    @strawberry.field
    def trees(self, first: int = 4) -> list[Tree]:
        return TREES[:first]

    @strawberry.field
    async def some(self, first: int = 6) -> list[Tree | None] | None:
        return [None, *TREES[:first:2]]

    @strawberry.field
    def sound(self) -> list[Tree]:
        return [TREES[number] for number in (1, 2, 3, 6, 8)]

    @strawberry.field
    def tree(self, number: Annotated[int, strawberry.argument()] = 1) -> Tree | None:
        return TREES[number] if 0 <= number < len(TREES) else None


TOY: Final = strawberry.Schema(
    query=Query, types=[Stone, Tree], execution_context_class=ColumnarExecutor
)
TOY_VALUES: Final[Values] = {
    "first": lambda dice: dice.choice((0, 1, 3, 6, 8)),
    "number": lambda dice: dice.randrange(17),
    "times": lambda dice: dice.randrange(5),
}


class RememberedSnapshot(Snapshot):
    """Answers what it was asked before in a time that does not depend on the database.

    Where several fields fail and one null stands for all of them, the first cancels the others:
    which that is must be the same on both paths, for them to be compared.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database, single=False)
        self._known: dict[Hashable, Sequence[AnyRow]] = {}
        self.has_missed = True

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        key = id(statement), repr(parameters)
        if key not in self._known:
            self.has_missed = True
            await super().rows(statement, parameters)
        await asyncio.sleep(0)
        return self._known[key]

    async def _rows(self, statement: Statement, parameters: Parameters) -> Sequence[AnyRow]:
        rows = await super()._rows(statement, parameters)
        self._known[id(statement), repr(parameters)] = rows
        return rows


async def executed(
    asked: strawberry.Schema,
    node: DocumentNode,
    variables: Mapping[str, object],
    context: ColumnarContext,
) -> ExecutionResult:
    return await execute_operation(
        asked, node, variables=variables, operation_name=None, context=context
    )


def plans_of(node: DocumentNode) -> OperationPlans | None:
    """Return what the service keeps of a document's operation."""
    [operation] = (it for it in node.definitions if isinstance(it, OperationDefinitionNode))
    return None if is_conditional(node, operation) else OperationPlans()


def turns_of(document: Document, dice: random.Random) -> list[dict[str, object]]:
    """Return a document's variables, and others for the next time, of which some do not fit."""
    others: dict[str, object] = {}
    for name, value in document.variables.items():
        if dice.random() < 0.9:
            others[name] = dice.choice([5, "A", None, [], {}]) if dice.random() < 0.1 else value
    return [document.variables, others]


def told(result: ExecutionResult) -> str:
    """Return all that a result tells, keys in their order."""
    return json.dumps(result.formatted)


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
async def test_random_queries_of_a_hostile_schema_get_what_graphql_core_answers(part: int) -> None:
    covered = failed = bound = 0
    for seed in range(part, TOY_CASES, PARTS):
        document = Document(TOY._schema, TOY_VALUES, random.Random(seed))
        node = parse(document.text)
        # A sample: it takes as long as executing both ways.
        if seed % 5 == 0:
            assert validate(TOY._schema, node) == [], document.text
        plans = plans_of(node)
        for variables in turns_of(document, random.Random(seed)):
            context = ToyContext(may_bulk=True, plans=plans)
            bulk = await executed(TOY, node, variables, context)
            if variables is document.variables or variables != document.variables:
                plain = await executed(TOY, node, variables, ToyContext(may_bulk=False))
            assert told(bulk) == told(plain), f"seed {seed}: {document.text} {variables}"
            covered += context.in_bulk
            failed += bool(plain.errors)
        if plans is not None:
            assert plans.prepared is not None
            bound += any(plans.of_fields.values())

    cases = 2 * TOY_CASES // PARTS
    assert covered > cases * 0.7
    assert bound > cases * 0.08
    assert cases * 0.2 < failed < cases * 0.7


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
async def test_random_queries_of_the_service_get_what_graphql_core_answers(
    service: Service, part: int
) -> None:
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    values = await real_values(service, [place.id for place in model.warehouses])
    authenticator = Authenticator(service.database, cache_seconds=0)
    principal = await authenticator.authenticate(f"Bearer {service.token('read')}")
    covered = failed = bound = 0
    for seed in range(part, REAL_CASES, PARTS):
        document = Document(schema._schema, values, random.Random(seed))
        node = parse(document.text)
        assert validate(schema._schema, node) == [], document.text
        plans = plans_of(node)
        snapshot = RememberedSnapshot(service.database)
        asked = partial(Context, principal, service.database, snapshot, budget=Budget(UNLIMITED))
        for variables in turns_of(document, random.Random(seed)):
            if variables is document.variables or variables != document.variables:
                snapshot.has_missed = True
            while snapshot.has_missed:
                snapshot.has_missed = False
                plain = await executed(schema, node, variables, asked(may_bulk=False))
            context = asked(may_bulk=True, plans=plans)
            bulk = await executed(schema, node, variables, context)
            assert told(bulk) == told(plain), f"seed {seed}: {document.text} {variables}"
            covered += context.in_bulk
            failed += bool(plain.errors)
        if plans is not None:
            assert plans.prepared is not None
            bound += any(plans.of_fields.values())
        await snapshot.close()

    cases = 2 * REAL_CASES // PARTS
    assert covered > cases * 0.35
    assert bound > cases * 0.08
    assert cases * 0.05 < failed < cases * 0.7


async def real_values(service: Service, places: Sequence[str]) -> Values:
    """Return what to ask the service for: mostly what there is."""
    data = await service.data(
        "{ skus { edges { cursor node { id stock { id } adjustments(first: 1) { "
        "edges { cursor node { id } } } } } } adjustments(first: 5) { edges { cursor } } }"
    )
    edges = data["skus"]["edges"]
    ids = [edge["node"]["id"] for edge in edges]
    ids += [level["id"] for edge in edges for level in edge["node"]["stock"]]
    below = [it for edge in edges for it in edge["node"]["adjustments"]["edges"]]
    ids += [it["node"]["id"] for it in below]
    cursors = [it["cursor"] for it in [*edges, *data["adjustments"]["edges"], *below]]

    def mostly(known: Sequence[str]) -> Callable[[random.Random], object]:
        return lambda dice: dice.choice(known) if dice.random() < 0.9 else "nothing"

    def seldom(known: Sequence[str]) -> Callable[[random.Random], object]:
        return lambda dice: dice.choice(known) if dice.random() < 0.1 else None

    return {
        "id": mostly([*ids, *places]),
        "warehouseId": mostly(places),
        "sku": mostly(CODES),
        "reason": mostly(REASONS),
        "first": lambda dice: dice.choice((1, 2, 3, 5)) if dice.random() < 0.98 else 0,
        "after": seldom(cursors),
        "from": lambda dice: dice.choice(("2026-03-10", "2026-03-11T05:30:00Z")),
        "to": lambda dice: dice.choice(("2026-03-12", "2026-03-11T15:00:00Z", "2026-05-01")),
        "at": lambda dice: dice.choice(("2026-03-10", "2026-03-11T05:00:00Z")),
        "createdBy": mostly([EMAIL]),
        "startDate": seldom(["2026-03-10", "2026-03-11T05:00:00Z"]),
        "endDate": seldom(["2026-03-12"]),
    }


async def test_what_stands_in_records_is_read_off_them_without_a_look_at_each_field(
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
            may_bulk=True,
            plans=plans,
        )
        node = parse(
            "{ skus { nodes { sku __typename isArchived status archivedAt "
            "stock { available warehouse { type } } adjustments(first: 1) { totalCount } } } }"
        )
        result = await executed(schema, node, {}, context)

    assert result.errors is None
    found: dict[Any, SelectionPlan] = plans.of_selections
    fields = {type_.name: [*plan.fields] for (type_, *_), plan in found.items()}
    assert fields["Sku"] == ["isArchived", "adjustments"]
    assert "StockLevel" not in fields


@pytest.mark.parametrize("is_on", [True, False])
async def test_a_setting_leaves_lists_to_graphql_core(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch, *, is_on: bool
) -> None:
    model = catalogue()
    await service.load(model.warehouses, model.skus)
    completed: list[object] = []
    complete = SelectionPlan.complete

    def noted(self: Any, *arguments: Any) -> Any:
        completed.append(arguments)
        return complete(self, *arguments)

    monkeypatch.setattr(SelectionPlan, "complete", noted)
    query = "{ skus { nodes { sku stock { onHand warehouse { name } } } } }"
    async with running(database_url, bulk_completion=is_on) as (app, client):
        mine = Service(app, client, service.database, service.tenant)
        data = await mine.data(query)

    assert [node["sku"] for node in data["skus"]["nodes"]] == CODES
    assert bool(completed) is is_on


class Note(str):
    """A text that one can tell to be gone."""

    __slots__ = ("__weakref__",)


async def test_nothing_of_a_request_is_kept_for_the_next(service: Service) -> None:
    """Not who asked, not what was sent, and nothing that graphql-core notes meanwhile."""
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

    async def ask(times: int) -> tuple[int, list[object]]:
        asked: list[weakref.ref[Any]] = []
        for quantity in range(times):
            note = Note(f"number {quantity}")
            change = {**level, "quantity": quantity, "note": note}
            async with service.database.snapshot() as snapshot:
                context = Context(
                    principal,
                    service.database,
                    snapshot,
                    budget=Budget(UNLIMITED),
                    may_bulk=True,
                    plans=plans,
                )
                result = await executed(schema, node, {"input": change}, context)
            assert result.errors is None
            asked += [weakref.ref(context), weakref.ref(note)]
            del context, note, change, result, snapshot
        gc.collect()
        fields = sum(isinstance(it, FieldDetails) for it in gc.get_objects())
        return fields, [each() for each in asked if each() is not None]

    few, kept = await ask(3)
    assert kept == []
    assert await ask(10) == (few, [])
