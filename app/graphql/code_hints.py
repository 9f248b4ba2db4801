"""Hints in the errors of a query: a code that exists, like one that is unknown."""

from collections.abc import Iterable
from contextlib import suppress

from graphql import GraphQLError

from app.database.engine import Database
from app.errors import InventoryNotFound, Unavailable, inventory_not_found
from app.graphql.schema.budget import KEY_COST, STATEMENT_COST, Budget
from app.reads.similar_codes import find_similar_codes


async def add_code_hints(
    database: Database, tenant_id: str, errors: Iterable[GraphQLError], budget: Budget
) -> None:
    """Add similar codes to the errors of unknown SKU codes.

    The errors stay as they are if the budget is spent or the database cannot be read.
    """
    refusals = [
        (str(refusal.details[0]["sku"]), refusal)
        for error in errors
        # A refusal of an unknown external id has no code.
        if isinstance(refusal := _original(error), InventoryNotFound)
        and "sku" in refusal.details[0]
    ]
    cost = STATEMENT_COST + len(refusals) * KEY_COST
    if not refusals or cost > budget.left:
        return
    budget.spend(cost)
    with suppress(Unavailable):
        async with database.snapshot(single=True, tenant_id=tenant_id) as snapshot:
            similar = await find_similar_codes(snapshot, tenant_id, {code for code, _ in refusals})
        for code, refusal in refusals:
            hinted = inventory_not_found(code, similar.get(code))
            refusal.message, refusal.details = hinted.message, hinted.details


def _original(error: GraphQLError) -> Exception | None:
    original: Exception | None = error
    while isinstance(original, GraphQLError):
        original = original.original_error
    return original
