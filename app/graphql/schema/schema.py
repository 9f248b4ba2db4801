"""The schema, built from its root types."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from app.graphql.schema.mutation import Mutation
from app.graphql.schema.query import Query
from app.graphql.schema.scalars import SCALARS
from app.graphql.schema.types import Adjustment, Sku, StockLevel, Warehouse

schema = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    types=[Adjustment, Sku, StockLevel, Warehouse],
    config=StrawberryConfig(scalar_map=SCALARS),
)
