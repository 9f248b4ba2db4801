"""What the benchmark knows of each server: how to start it, what to ask, how to read its answers.

A server is told by its environment: DATABASE_URL, PORT, TENANT, WORKERS, and POOL, the connections
of each worker; `{port}` and `{workers}` in its command are replaced.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict


class Level(TypedDict):
    """What one warehouse holds of a SKU."""

    warehouse_id: str
    name: str
    type: str
    on_hand: int
    reserved: int
    available: int


class Record(TypedDict):
    """A SKU, in the words of the database; its levels by warehouse id."""

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
    """What a stock level shall be."""

    sku: str
    warehouse_id: str
    quantity: int


def nothing() -> None:
    """Need no preparation."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server, the four works as requests to it, and its answers in one form."""

    name: str
    command: Callable[[], list[str]]
    list50: Callable[[], Ask]
    one: Callable[[str], Ask]
    set_stock: Callable[[Update], Ask]
    bulk: Callable[[Sequence[Update]], Ask]
    read_list: Callable[[Any], list[Record]]
    read_one: Callable[[Any], Record]
    # What the level of a warehouse holds after a set.
    read_set: Callable[[Any, str], int]
    # (SKU, warehouse id, on hand after) in the order of the request.
    read_bulk: Callable[[Any], list[tuple[str, str, int]]]
    prepare: Callable[[], None] = nothing
    setup_sql: str = ""
    # Headers of writes.
    write_headers: Mapping[str, str] = field(default_factory=dict)
