"""The root of the writes."""

import strawberry

from app.graphql.mutations.catalogue import CatalogueMutation
from app.graphql.mutations.reservations import ReservationMutation
from app.graphql.mutations.reversing import ReversingMutation
from app.graphql.mutations.stock import StockMutation
from app.graphql.mutations.sync import SyncMutation


@strawberry.type(description="The writes. Each needs the scope that its description names.")
class Mutation(
    StockMutation, ReservationMutation, ReversingMutation, CatalogueMutation, SyncMutation
):
    """The writes."""
