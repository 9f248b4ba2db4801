"""The root type of the writes."""

import strawberry

from app.graphql.schema.mutations.catalogue import CatalogueMutation
from app.graphql.schema.mutations.marketplace_sync import SyncMutation
from app.graphql.schema.mutations.reservations import ReservationMutation
from app.graphql.schema.mutations.reversals import ReversalMutation
from app.graphql.schema.mutations.stock import StockMutation
from app.graphql.schema.mutations.transfers import TransferMutation
from app.graphql.schema.mutations.webhooks import WebhookMutation


@strawberry.type(description="The writes. The description of each field names its scope.")
class Mutation(
    StockMutation,
    TransferMutation,
    ReservationMutation,
    ReversalMutation,
    CatalogueMutation,
    SyncMutation,
    WebhookMutation,
):
    """The root type of the writes."""
