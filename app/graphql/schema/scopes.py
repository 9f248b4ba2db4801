"""The scope that each root field needs. A root field without a scope here is refused."""

from collections.abc import Mapping
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentSpreadNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)

from app.domain.caller import Scope
from app.graphql.fragments import fragments_of

SCOPES: Final[Mapping[str, Mapping[str, Scope]]] = {
    "Query": {
        "__schema": Scope.READ,
        "__type": Scope.READ,
        "__typename": Scope.AVAILABILITY,
        "adjustments": Scope.READ,
        "availabilities": Scope.AVAILABILITY,
        "availability": Scope.AVAILABILITY,
        "changes": Scope.READ,
        "node": Scope.READ,
        "nodes": Scope.READ,
        "reservation": Scope.READ,
        "reservations": Scope.READ,
        "sku": Scope.READ,
        "skuByExternalId": Scope.READ,
        "skus": Scope.READ,
        "skusByCode": Scope.READ,
        "warehouse": Scope.READ,
        "warehouseByExternalId": Scope.READ,
        "warehouses": Scope.READ,
        "webhook": Scope.ADMIN,
        "webhookAttempts": Scope.ADMIN,
        "webhooks": Scope.ADMIN,
    },
    "Mutation": {
        "__typename": Scope.READ,
        "adjustStock": Scope.WRITE,
        "archiveSku": Scope.ADMIN,
        "bulkSetStock": Scope.WRITE,
        "commitReservation": Scope.WRITE,
        "createSku": Scope.ADMIN,
        "createWarehouse": Scope.ADMIN,
        "createWebhook": Scope.ADMIN,
        "deleteWebhook": Scope.ADMIN,
        "extendReservation": Scope.WRITE,
        "amendReservation": Scope.WRITE,
        "releaseReservation": Scope.WRITE,
        "reserveStock": Scope.WRITE,
        "restoreSku": Scope.ADMIN,
        "reverseAdjustments": Scope.WRITE,
        "rotateWebhookSecret": Scope.ADMIN,
        "sendWebhookAgain": Scope.ADMIN,
        "setReorderPoints": Scope.ADMIN,
        "setSafetyStock": Scope.ADMIN,
        "setStock": Scope.WRITE,
        # Reports of a marketplace need inventory:admin.
        "syncStock": Scope.WRITE,
        "transferStock": Scope.WRITE,
        "updateSku": Scope.ADMIN,
        "updateWarehouse": Scope.ADMIN,
        "updateWebhook": Scope.ADMIN,
    },
    "Subscription": {
        "__typename": Scope.READ,
        "availabilityChanged": Scope.AVAILABILITY,
        "changes": Scope.READ,
        "reservationChanged": Scope.READ,
        "statusChanged": Scope.READ,
        "stockChanged": Scope.READ,
    },
}
ROOT_TYPES: Final = {
    OperationType.QUERY: "Query",
    OperationType.MUTATION: "Mutation",
    OperationType.SUBSCRIPTION: "Subscription",
}


def needed_scopes(document: DocumentNode, operation: OperationDefinitionNode) -> frozenset[Scope]:
    """Scopes of all root fields of an operation, including skipped fields."""
    scopes = SCOPES[ROOT_TYPES[operation.operation]]
    return frozenset(scopes[name] for name in _root_fields(document, operation))


def _root_fields(document: DocumentNode, operation: OperationDefinitionNode) -> set[str]:
    fragments = fragments_of(document)
    names: set[str] = set()
    seen: set[str] = set()
    waiting: list[SelectionSetNode] = [operation.selection_set]
    while waiting:
        for selection in waiting.pop().selections:
            if isinstance(selection, FieldNode):
                names.add(selection.name.value)
            elif isinstance(selection, FragmentSpreadNode):
                name = selection.name.value
                if name not in seen:
                    seen.add(name)
                    waiting.append(fragments[name].selection_set)
            else:
                waiting.append(selection.selection_set)  # type: ignore[attr-defined]
    return names
