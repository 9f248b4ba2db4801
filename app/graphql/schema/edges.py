"""Definitions of fields that lead from one object to another."""

from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import strawberry

from app.graphql.columnar import ColumnarField
from app.graphql.schema.context import Context, Info


def edge_to(
    get_record: Callable[[Context, Any], Awaitable[Any]],
    key_of: Callable[[Any], Any],
    make: Callable[[Any], object],
    description: str,
) -> Any:  # noqa: ANN401
    """Define a field that leads to another object, one by one and for a list of parents.

    `get_record` gets the record of a key, and `key_of` gets the key of a parent's record. Parents
    with the same key share one object.
    """

    async def resolve(self: Any, info: Info):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN401 - as declared
        return make(await get_record(info.context, key_of(self.record)))

    async def resolve_batch(parents: Sequence[Any], context: Context) -> list[Any]:
        keys = [key_of(parent.record) for parent in parents]
        distinct_keys = list(dict.fromkeys(keys))
        records = await gather(*(get_record(context, key) for key in distinct_keys))
        objects = dict(zip(distinct_keys, map(make, records), strict=True))
        return [objects[key] for key in keys]

    return strawberry.field(
        resolver=resolve,
        description=description,
        metadata=ColumnarField(batch=resolve_batch).metadata,
    )
