"""The fields that a token bound to warehouses may select. Every other field is refused.

Each of them has the figures of the token's warehouses alone, because the loaders and the payloads
narrow its records. A field that reads the stock of all warehouses in SQL cannot be narrowed so.
"""

from collections.abc import Mapping
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentSpreadNode,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
)

from app.graphql.fragments import fragments_of
from app.graphql.schema.scopes import ROOT_TYPES

BOUND_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    type_name: frozenset(fields.split())
    for type_name, fields in {
        "Query": "adjustments changes sku skusByCode warehouse warehouses",
        "Mutation": "adjustStock bulkSetStock setStock syncStock transferStock",
        "Subscription": "changes stockChanged",
        "Warehouse": "adjustments address externalIds id isActive isReadonly isSellable "
        "marketplace metadata name stock type",
        "Sku": "archivedAt id isArchived reorderPoint safetyStock sku status stock stockLevel "
        "title totalAvailable totalOnHand totalReserved version",
        "StockLevel": "adjustedAt adjustments available code id onHand reorderPoint reserved "
        "safetyStock sku status syncedAt title version warehouse",
        "StockLevelConnection": "edges feedPosition nodes pageInfo totalCount",
        "StockLevelEdge": "cursor node",
        "Adjustment": "afterQuantity beforeQuantity bulkId createdAt createdBy delta id note "
        "occurredAt position reason reference reservationId reversalOf sequence sku transferId "
        "warehouse",
        "AdjustmentConnection": "edges feedPosition nodes pageInfo totalCount totals",
        "AdjustmentEdge": "cursor node",
        "AdjustmentTotals": "decrease entries increase netChange",
        "PageInfo": "endCursor hasNextPage hasPreviousPage startCursor",
        "ChangePage": "newestPosition nodes readTo",
        "Change": "adjustmentId after before code createdAt occurredAt position reason reference "
        "reservationId type warehouseId webhookId",
        "ChangedValues": "address available expiresAt externalIds isActive isArchived "
        "isSellable marketplace metadata name onHand reorderPoint reservationStatus reserved "
        "safetyStock status title type version",
        # Of its warehouses; changes of SKUs are not in its feed.
        "ExternalId": "namespace value",
        "MetadataEntry": "key value",
        "SetStockPayload": "adjustment replayed sku stockLevel",
        "AdjustStockPayload": "adjustment replayed sku stockLevel",
        "BulkSetStockPayload": "failed replayed results succeeded total",
        "BulkResult": "adjustment error index sku status stockLevel warehouseId",
        "SyncStockPayload": "failed ignored replayed results unchanged updated",
        "SyncResult": "adjustment code error index status stockLevel",
        "BulkError": "code details fields message",
        "InvalidField": "field message",
        "StaleVersionDetails": "onHand skuVersion version",
        "TransferStockPayload": "lines replayed transferId",
        "TransferredLine": "incoming outgoing",
    }.items()
}


def field_of_unbound_tokens(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
) -> str | None:
    """Coordinate of a field of an operation that bound tokens may not select, if there is one.

    The document is valid.
    """
    fragments = fragments_of(document)
    seen: set[str] = set()
    waiting = [(ROOT_TYPES[operation.operation], operation.selection_set)]
    while waiting:
        type_name, selections = waiting.pop()
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                name = selection.name.value
                # Introspection reads no data.
                if name.startswith("__"):
                    continue
                if name not in BOUND_FIELDS.get(type_name, ()):
                    return f"{type_name}.{name}"
                if selection.selection_set:
                    waiting.append((_type_of(schema, type_name, name), selection.selection_set))
            elif isinstance(selection, FragmentSpreadNode):
                fragment = fragments[selection.name.value]
                if selection.name.value not in seen:
                    seen.add(selection.name.value)
                    condition = fragment.type_condition.name.value
                    waiting.append((condition, fragment.selection_set))
            else:
                inline: SelectionSetNode = selection.selection_set  # type: ignore[attr-defined]
                given = selection.type_condition  # type: ignore[attr-defined]
                waiting.append((given.name.value if given else type_name, inline))
    return None


def _type_of(schema: GraphQLSchema, type_name: str, field: str) -> str:
    """Name of the type of a field of an object."""
    fields = schema.type_map[type_name].fields  # type: ignore[attr-defined]
    return str(get_named_type(fields[field].type).name)
