"""The interface of a contender: its command, its requests, and the parsers of its responses.

The environment configures a server: DATABASE_URL, PORT, TENANT, WORKERS, and POOL, the number of
connections of each worker. `{port}` and `{workers}` in its command are replaced.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict


class Level(TypedDict):
    """The stock of a SKU in one warehouse."""

    warehouse_id: str
    name: str
    type: str
    on_hand: int
    reserved: int
    available: int


class Record(TypedDict):
    """A SKU with the names of the database; its levels are sorted by warehouse id."""

    sku: str
    title: str
    status: str
    levels: list[Level]


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request; the body is a JSON value."""

    method: str
    path: str
    body: object | None


@dataclass(frozen=True, slots=True)
class Update:
    """The new quantity of a stock level."""

    sku: str
    warehouse_id: str
    quantity: int


def nothing() -> None:
    """Do nothing: most contenders need no preparation."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server, its requests for the four works, and its responses in one form."""

    name: str
    command: Callable[[], list[str]]
    # The page of 50 SKUs after a cursor; None: the first page.
    list50: Callable[[str | None], Ask]
    one: Callable[[str], Ask]
    set_stock: Callable[[Update], Ask]
    bulk: Callable[[Sequence[Update]], Ask]
    read_list: Callable[[Any], list[Record]]
    # The cursor of the page after a page.
    read_cursor: Callable[[Any], str]
    read_one: Callable[[Any], Record]
    # on_hand of the level of a warehouse after a set.
    read_set: Callable[[Any, str], int]
    # (SKU, warehouse id, on hand after) in the order of the request.
    read_bulk: Callable[[Any], list[tuple[str, str, int]]]
    # Reserves one unit of a level; only the floor and this service can.
    reserve: Callable[[Update], Ask] | None = None
    prepare: Callable[[], None] = nothing
    setup_sql: str = ""
    # Headers of writes.
    write_headers: Mapping[str, str] = field(default_factory=dict)
