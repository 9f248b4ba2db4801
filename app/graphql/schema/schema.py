"""The schema, built from its root types."""

import strawberry
from graphql import GraphQLInputObjectType, GraphQLSchema
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.graphql.schema.mutation import Mutation
from app.graphql.schema.query import Query
from app.graphql.schema.scalars import SCALARS
from app.graphql.schema.subscription import Subscription
from app.graphql.schema.types import Adjustment, Sku, StockLevel, Warehouse

schema = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[Adjustment, Sku, StockLevel, Warehouse],
    config=StrawberryConfig(scalar_map=SCALARS),
)


def mark_one_of_inputs(core: GraphQLSchema) -> None:
    """Mark the one-of inputs for graphql-core, which then checks and introspects them.

    Strawberry marks them only for itself.
    """
    for type_ in core.type_map.values():
        definition = type_.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if isinstance(type_, GraphQLInputObjectType) and definition and definition.is_one_of:
            type_.is_one_of = True
            type_.out_type = GraphQLInputObjectType.out_type  # type: ignore[method-assign]


mark_one_of_inputs(schema._schema)  # noqa: SLF001 - Strawberry has no public name for it
