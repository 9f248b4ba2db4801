"""The root of the writes."""

import strawberry

from app.graphql.schema.mutations.catalogue import CatalogueMutation
from app.graphql.schema.mutations.marketplace_sync import SyncMutation
from app.graphql.schema.mutations.reservations import ReservationMutation
from app.graphql.schema.mutations.reversals import ReversingMutation
from app.graphql.schema.mutations.stock import StockMutation


@strawberry.type(description="The writes. Each needs the scope that its description names.")
class Mutation(
    StockMutation, ReservationMutation, ReversingMutation, CatalogueMutation, SyncMutation
):
    """The writes."""
