"""A hostile schema of trees: nulls, errors and invalid values in every kind of field."""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Self

import strawberry
from strawberry import Private

from app.graphql.columnar import ColumnarField, OperationPlans
from app.graphql.schema.budget import Budget
from app.graphql.schema.fields import object_from, objects_from, read_from
from app.runtime.fair_loop import PIECE, in_pieces
from tests.graphql.generating import Values

UNLIMITED: Final = 10**12


@strawberry.enum
class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclass
class ToyContext:
    columnar: bool
    has_columns: bool = False
    plans: OperationPlans | None = None
    budget: Budget = field(default_factory=lambda: Budget(UNLIMITED))
    piece_size: int = PIECE

    in_pieces = staticmethod(in_pieces)

    def afresh(self) -> Self:
        return replace(self, has_columns=False)


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
    """An object made of a record. Tree 6 has seeds without weight, tree 10 with unknown colours."""

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
    """An object with invalid values: number 7 has a null name, number 9 an unknown colour."""

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
            message = f"{self.number} does not echo {times} times"
            raise ValueError(message)
        words = [self.name] * times + ([f"{tone.colour} {tone.times}"] if tone else [])
        return ", ".join([*words, colour.value])

    @strawberry.field(metadata=ColumnarField(batch=parents_of).metadata)  # type: ignore[untyped-decorator]
    async def parent(self) -> "Tree":
        parents: list[Tree] = await parents_of([self], None)
        return parents[0]

    @strawberry.field(metadata=ColumnarField(batch=friends_of).metadata)  # type: ignore[untyped-decorator]
    async def friend(self) -> "Tree | None":
        friends: list[Tree | None] = await friends_of([self], None)
        return friends[0]

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


TOY: Final = strawberry.Schema(query=Query, types=[Stone, Tree])
# Values for arguments by name.
TOY_VALUES: Final[Values] = {
    "first": lambda dice: dice.choice((0, 1, 3, 6, 8)),
    "number": lambda dice: dice.randrange(17),
    "times": lambda dice: dice.randrange(5),
}
