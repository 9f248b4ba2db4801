"""Which queries are a single SQL statement, found out once for each document.

A single statement needs no transaction to see one state of the database. The decision is made of
the document and of which variables are null, never of how an earlier request went.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

# The root fields that are one statement, and which fields of their filter need another.
ROOTS: Final[Mapping[str, frozenset[str]]] = {
    "skus": frozenset({"warehouseId"}),
    "adjustments": frozenset({"sku", "warehouseId"}),
    **dict.fromkeys(
        ("sku", "warehouses", "warehouse", "reservation", "reservations", "node"), frozenset()
    ),
}
# The one list whose total comes with its page.
COUNTED: Final = "skus", "SkuConnection", "totalCount"


@dataclass(frozen=True, slots=True)
class Single:
    """A query that is a single statement, provided that some variables are null.

    A variable that is a whole filter may have any fields but some.
    """

    null: frozenset[str]
    filters: frozenset[str]

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Whether the query is a single statement with these variables."""
        return all(map(self._is_null, map(variables.get, self.null)))

    def _is_null(self, value: object) -> bool:
        if isinstance(value, dict):
            return all(value.get(name) is None for name in self.filters)
        return value is None


def single_of(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
) -> Single | None:
    """Return when a valid operation is a single statement; None if it never is."""
    selections = operation.selection_set.selections
    if operation.operation is not OperationType.QUERY or len(selections) != 1:
        return None
    root = selections[0]
    if not isinstance(root, FieldNode) or root.name.value not in ROOTS or not schema.query_type:
        return None
    filters = ROOTS[root.name.value]
    null = _null_variables(root, filters)
    defaults = {
        it.variable.name.value
        for it in operation.variable_definitions or ()
        if it.default_value is not None
    }
    if null is None or null & defaults:
        return None
    type_ = get_named_type(schema.query_type.fields[root.name.value].type)
    selection = _Selection(schema, document, root.name.value)
    return Single(null, filters) if selection.is_read(root.selection_set, type_) else None


def _null_variables(root: FieldNode, filters: frozenset[str]) -> frozenset[str] | None:
    """Return the variables of a filter that have to be null; None if a literal is not."""
    found: dict[str, ValueNode] = {it.name.value: it.value for it in root.arguments or ()}
    given = found.get("filter")
    if given is None or not filters or isinstance(given, NullValueNode):
        return frozenset()
    if isinstance(given, VariableNode):
        return frozenset({given.name.value})
    if not isinstance(given, ObjectValueNode):
        return None
    values = [it.value for it in given.fields if it.name.value in filters]
    if not all(isinstance(it, VariableNode | NullValueNode) for it in values):
        return None
    return frozenset(it.name.value for it in values if isinstance(it, VariableNode))


class _Selection:
    """Looks through a selection for a field that needs a statement of its own."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, root: str) -> None:
        self._schema = schema
        self._root = root
        self._fragments = {
            it.name.value: it
            for it in document.definitions
            if isinstance(it, FragmentDefinitionNode)
        }
        self._known: dict[str, bool] = {}

    def is_read(self, selections: SelectionSetNode | None, type_: object) -> bool:
        """Whether all of a selection is read off what the root field has found."""
        if selections is None:
            return True
        if not isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            return False
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                found = self._is_field_read(selection, type_)
            elif isinstance(selection, FragmentSpreadNode):
                found = self._is_fragment_read(selection.name.value)
            else:
                condition = selection.type_condition  # type: ignore[attr-defined]
                inner = self._schema.get_type(condition.name.value) if condition else type_
                found = self.is_read(selection.selection_set, inner)  # type: ignore[attr-defined]
            if not found:
                return False
        return True

    def _is_fragment_read(self, name: str) -> bool:
        if name not in self._known:
            fragment = self._fragments[name]
            type_ = self._schema.get_type(fragment.type_condition.name.value)
            self._known[name] = self.is_read(fragment.selection_set, type_)
        return self._known[name]

    def _is_field_read(
        self, node: FieldNode, parent: GraphQLObjectType | GraphQLInterfaceType
    ) -> bool:
        name = node.name.value
        if name == "__typename" or (self._root, parent.name, name) == COUNTED:
            return True
        field = parent.fields[name]
        definition: StrawberryField = field.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
        resolver = definition.base_resolver
        if resolver is not None and resolver.is_async:
            return False
        return self.is_read(node.selection_set, get_named_type(field.type))
