"""The root of the writes."""

import strawberry

from app.graphql.mutations.catalogue import CatalogueMutation
from app.graphql.mutations.stock import StockMutation
from app.graphql.mutations.sync import SyncMutation


@strawberry.type(description="The writes. Each needs the scope that its description names.")
class Mutation(StockMutation, CatalogueMutation, SyncMutation):
    """The writes."""
