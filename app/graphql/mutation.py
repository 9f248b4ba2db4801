"""The root of the writes."""

import strawberry

from app.graphql.mutations.stock import StockMutation


@strawberry.type(description="The writes. Each needs the scope that its description names.")
class Mutation(StockMutation):
    """The writes."""
