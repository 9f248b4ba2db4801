"""Detection of queries that are a single SQL statement, made once for each document.

A single statement sees one state of the database without a transaction. The decision depends on the
document and on which variables are null, and not on earlier requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
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

from app.graphql.fragments import fragments_of

# Root fields with one statement, and the fields of their filters that need another statement.
SINGLE_STATEMENT_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "skus": frozenset({"warehouseId", "codePrefix", "updatedSince", "text", "externalId"}),
    "adjustments": frozenset({"sku", "warehouseId"}),
    "reservations": frozenset({"sku", "warehouseId"}),
    "availabilities": frozenset({"text"}),
    **dict.fromkeys(
        ("availability", "sku", "warehouses", "warehouse", "reservation", "node"), frozenset()
    ),
}
# The only list whose total is read with its page.
COUNTED: Final = "skus", "SkuConnection", "totalCount"


@dataclass(frozen=True, slots=True)
class SingleStatement:
    """A query that is a single statement if the variables in `null` are null.

    Of the variable that is a whole filter, if there is one, the fields in `filters` must be null.
    """

    null: frozenset[str]
    filter_variable: str | None
    filters: frozenset[str]

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Whether the query is a single statement with these variables."""
        if any(variables.get(name) is not None for name in self.null):
            return False
        whole = variables.get(self.filter_variable) if self.filter_variable else None
        return not isinstance(whole, dict) or all(whole.get(name) is None for name in self.filters)


def single_statement_of(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
) -> SingleStatement | None:
    """Condition for a valid operation to be a single statement; None if it never is."""
    selections = operation.selection_set.selections
    if operation.operation is not OperationType.QUERY or len(selections) != 1:
        return None
    root = selections[0]
    if not isinstance(root, FieldNode) or not schema.query_type:
        return None
    name = root.name.value
    filters = SINGLE_STATEMENT_FIELDS.get(name)
    if filters is None:
        return None
    condition = _condition(root, filters)
    defaults = {
        definition.variable.name.value
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }
    if condition is None or {*condition.null, condition.filter_variable} & defaults:
        return None
    type_ = get_named_type(schema.query_type.fields[name].type)
    selection = _Selection(schema, document, name)
    return condition if selection.is_read(root.selection_set, type_) else None


def _condition(root: FieldNode, filters: frozenset[str]) -> SingleStatement | None:
    """Condition on the variables of the filter of a root field; None if a literal is not null."""
    arguments: dict[str, ValueNode] = {
        argument.name.value: argument.value for argument in root.arguments or ()
    }
    filter_ = arguments.get("filter")
    if isinstance(filter_, VariableNode):
        return SingleStatement(frozenset(), filter_.name.value, filters)
    fields = filter_.fields if isinstance(filter_, ObjectValueNode) else ()
    values = [field.value for field in fields if field.name.value in filters]
    if not all(isinstance(value, VariableNode | NullValueNode) for value in values):
        return None
    null = frozenset(value.name.value for value in values if isinstance(value, VariableNode))
    return SingleStatement(null, None, filters)


class _Selection:
    """Searches a selection for a field that needs a statement of its own."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, root: str) -> None:
        self._schema = schema
        self._root = root
        self._fragments = fragments_of(document)
        self._read_fragments: dict[str, bool] = {}

    def is_read(self, selections: SelectionSetNode | None, type_: object) -> bool:
        """Whether the records of the root field have all values of a selection."""
        if selections is None:
            return True
        if not isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            return False
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                is_read = self._is_field_read(selection, type_)
            elif isinstance(selection, FragmentSpreadNode):
                is_read = self._is_fragment_read(selection.name.value)
            else:
                condition = selection.type_condition  # type: ignore[attr-defined]
                inner = self._schema.get_type(condition.name.value) if condition else type_
                is_read = self.is_read(selection.selection_set, inner)  # type: ignore[attr-defined]
            if not is_read:
                return False
        return True

    def _is_fragment_read(self, name: str) -> bool:
        if name not in self._read_fragments:
            fragment = self._fragments[name]
            type_ = self._schema.get_type(fragment.type_condition.name.value)
            self._read_fragments[name] = self.is_read(fragment.selection_set, type_)
        return self._read_fragments[name]

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
