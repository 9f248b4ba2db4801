"""The schema, made of its roots."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from app.graphql.executor import BulkExecutor
from app.graphql.mutation import Mutation
from app.graphql.query import Query
from app.graphql.scalars import SCALARS
from app.graphql.types import Adjustment, Sku, StockLevel, Warehouse

schema = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    types=[Adjustment, Sku, StockLevel, Warehouse],
    config=StrawberryConfig(scalar_map=SCALARS),
    execution_context_class=BulkExecutor,
)
