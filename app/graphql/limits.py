"""The size and cost of a document, counted in one pass before it is executed.

Each fragment is counted once, so the work grows with the length of the document and not with the
size of its expansion. The document need not be valid: an unknown field counts as a leaf, and
validation refuses it later. Validation compares the fields of one response name in pairs, so only
documents within the limits are validated.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from graphql import (
    DocumentNode,
    EnumValueNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLField,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    StringValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)

from app.domain.periods import assumed_periods
from app.errors import QueryTooComplex, ValidationFailed
from app.graphql.fragments import fragments_of
from app.graphql.schema.budget import INPUT_COST
from app.graphql.schema.relay import MAX_PAGE
from app.graphql.variable_checks import LONGEST_LIST
from app.settings import Settings

# Arguments with the keys of objects: their number is the number of items.
LOOKUPS: Final = frozenset({"codes", "ids"})
# The ends of the names of types that are pages of a list.
PAGES: Final = ("Connection", "Page")
# Assumed number of items in a list without a page size.
UNPAGED_ITEMS: Final = 5
# Costs of an operation that are cached by its page sizes.
CACHED_COSTS: Final = 16
# Longest text in variables that may be a time or an interval.
LONGEST_TEXT: Final = 40
EXCESS: Final = {
    "length": "has {found} characters",
    "depth": "is nested {found} fields deep",
    "fields": "selects {found} fields",
    "aliases": "has {found} aliases",
    "repeats": "selects one response name {found} times in one place",
    "root_fields": "has {found} root fields",
    "mutations": "has {found} mutations",
    "stream_fields": "selects {found} fields in a subscription",
    "directives": "has {found} directives",
    "cost": "costs up to {found}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLimits:
    """Limits of a document. Fragments count at each of their spreads."""

    tokens: int
    depth: int
    cost: int
    length: int = 50_000
    fields: int = 2_000
    aliases: int = 200
    # Selections of one response name in one place.
    repeats: int = 20
    # Root fields of a query.
    root_fields: int = 50
    # Root fields of a mutation.
    mutations: int = 10
    # Fields of a subscription, which are rendered again for every change and stream.
    stream_fields: int = 200
    directives: int = 50

    @classmethod
    def of(cls, settings: Settings) -> "QueryLimits":
        """Limits of the settings; the others are constants."""
        return cls(
            tokens=settings.max_query_tokens,
            depth=settings.max_query_depth,
            cost=settings.max_query_cost,
        )

    def check(self, name: str, found: int) -> None:
        """Check a count against its limit.

        Raises:
            QueryTooComplex: the count exceeds the limit.

        """
        most: int = getattr(self, name)
        if found > most:
            raise too_complex(name, most, found)


class Size(NamedTuple):
    """The size of a selection set with its fragments expanded."""

    depth: int = 0
    fields: int = 0
    # Fields of the set, without those of nested sets.
    width: int = 0
    aliases: int = 0
    directives: int = 0
    # Maximum number of values in the response.
    cost: int = 0
    # Further values per item of the page, if the set is that of a connection.
    cost_per_item: int = 0


class Count:
    """Counts the size of one operation. Its variables determine page sizes."""

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        operation: OperationDefinitionNode | None,
        variables: Mapping[str, object],
    ) -> None:
        self._schema = schema
        self._fragments = fragments_of(document)
        self._variables = {**_defaults(operation), **variables}
        self._fragment_sizes: dict[str, Size | None] = {}
        # Variables in the input of writes, with the number of their uses.
        self.inputs: Counter[str] = Counter()
        # Variables that determine the length of a page or a series.
        self.size_variables: set[str] = set()

    def of(self, selections: SelectionSetNode | None, parent: GraphQLCompositeType | None) -> Size:
        """Size of a selection set of a type.

        Raises:
            ValidationFailed: a fragment spreads itself.

        """
        sizes = (
            [self._selection(node, parent) for node in selections.selections] if selections else []
        )
        if not sizes:
            return Size()
        depths, *counts = zip(*sizes, strict=True)
        return Size(max(depths), *map(sum, counts))

    def unreached(self) -> Iterable[FragmentDefinitionNode]:
        """List the fragments that were not counted."""
        return [node for name, node in self._fragments.items() if name not in self._fragment_sizes]

    def fragment(self, name: str) -> Size:
        """Size of a fragment, counted at its first spread.

        Raises:
            ValidationFailed: the fragment spreads itself.

        """
        if name not in self._fragment_sizes:
            fragment = self._fragments.get(name)
            self._fragment_sizes[name] = None
            condition = fragment.type_condition.name.value if fragment else ""
            self._fragment_sizes[name] = self.of(
                fragment.selection_set if fragment else None, self._type(condition)
            )
        size = self._fragment_sizes[name]
        if size is None:
            message = f"The query does not fit the schema: fragment {name} spreads itself."
            raise ValidationFailed(message)
        return size

    def _selection(self, node: SelectionNode, parent: GraphQLCompositeType | None) -> Size:
        directives = len(node.directives or ())
        if isinstance(node, FieldNode):
            return self._field(node, parent, directives)
        if isinstance(node, FragmentSpreadNode):
            inner = self.fragment(node.name.value)
        else:
            condition = node.type_condition  # type: ignore[attr-defined]
            type_ = self._type(condition.name.value) if condition else parent
            inner = self.of(_inner(node), type_)
        # A spread is work too, even if its fragment is empty.
        return inner._replace(fields=inner.fields + 1, directives=inner.directives + directives)

    def _field(self, node: FieldNode, parent: GraphQLCompositeType | None, directives: int) -> Size:
        field = self._schema.get_field(parent, node.name.value) if parent else None
        type_ = get_named_type(field.type) if field else None
        inner = self.of(node.selection_set, type_ if is_composite_type(type_) else None)
        cost, per_item = self._cost(node, field, parent, inner)
        return Size(
            depth=inner.depth + 1,
            fields=inner.fields + 1,
            width=1,
            aliases=inner.aliases + (node.alias is not None),
            directives=inner.directives + directives,
            cost=cost,
            cost_per_item=per_item,
        )

    def _cost(
        self,
        node: FieldNode,
        field: GraphQLField | None,
        parent: GraphQLCompositeType | None,
        inner: Size,
    ) -> tuple[int, int]:
        if field is None:
            return 1, 0
        if parent is self._schema.mutation_type:
            return 1 + self._input_cost(node) + inner.cost, 0
        if is_list_type(get_nullable_type(field.type)):
            if parent and parent.name.endswith(PAGES):
                return 1, inner.cost
            return 1 + self._items(node, field) * inner.cost, 0
        page = self._page(node, field) if inner.cost_per_item else 1
        return 1 + inner.cost + page * inner.cost_per_item, 0

    def _input_cost(self, node: FieldNode) -> int:
        """Cost of the literal items in a write's input; also counts the input's variables."""
        items, values = 0, [argument.value for argument in node.arguments or ()]
        while values:
            value = values.pop()
            if isinstance(value, VariableNode):
                self.inputs[value.name.value] += 1
            elif isinstance(value, ObjectValueNode):
                values += [field.value for field in value.fields]
            elif isinstance(value, ListValueNode):
                items += len(value.values)
                values += value.values
        return items * INPUT_COST

    def _items(self, node: FieldNode, field: GraphQLField) -> int:
        for name in LOOKUPS & field.args.keys():
            return assumed_page(self._argument(node, field, name))
        if "interval" not in field.args:
            return UNPAGED_ITEMS
        first, last, interval = (
            self._argument(node, field, name) for name in ("from", "to", "interval")
        )
        return assumed_periods(first, last, interval)

    def _page(self, node: FieldNode, field: GraphQLField) -> int:
        if "first" not in field.args:
            return UNPAGED_ITEMS
        return assumed_page(self._argument(node, field, "first"))

    def _argument(self, node: FieldNode, field: GraphQLField, name: str) -> object:
        default = field.args[name].default_value
        value = next(
            (argument.value for argument in node.arguments or () if argument.name.value == name),
            None,
        )
        if isinstance(value, VariableNode):
            variable = value.name.value
            self.size_variables.add(variable)
            return size_value(self._variables.get(variable, default))
        return default if value is None else _literal(value)

    def _type(self, name: str) -> GraphQLCompositeType | None:
        type_ = self._schema.get_type(name)
        return type_ if is_composite_type(type_) else None


class Costs:
    """The costs of an operation, cached by the page sizes in its variables."""

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
    ) -> None:
        self._of = schema, document, operation
        count = Count(*self._of, {})
        self._fixed = count.of(operation.selection_set, _root(schema, operation)).cost
        self._size_variables = sorted(count.size_variables)
        self._inputs = count.inputs
        self._cache: dict[tuple[tuple[str, object], ...], int] = {}

    def cost(self, variables: Mapping[str, object]) -> int:
        """Maximum number of values in the response, plus the cost of the writes' input."""
        writes = sum(
            # A longer list is refused later.
            min(items_in(variables[name]), LONGEST_LIST) * times * INPUT_COST
            for name, times in self._inputs.items()
            if name in variables
        )
        return writes + (self._answer(variables) if self._size_variables else self._fixed)

    def _answer(self, variables: Mapping[str, object]) -> int:
        sizes = tuple(
            (name, size_value(variables[name]))
            for name in self._size_variables
            if name in variables
        )
        cost = self._cache.get(sizes)
        if cost is None:
            if len(self._cache) >= CACHED_COSTS or len(sizes) > CACHED_COSTS:
                self._cache.clear()
            schema, _, operation = self._of
            count = Count(*self._of, variables)
            cost = count.of(operation.selection_set, _root(schema, operation)).cost
            self._cache[sizes] = cost
        return cost


def check_document(schema: GraphQLSchema, document: DocumentNode, limits: QueryLimits) -> None:
    """Check a document against all limits except those on length, tokens and cost.

    Raises:
        QueryTooComplex: the document exceeds a limit.
        ValidationFailed: a fragment spreads itself.

    """
    sizes: list[Size] = []
    unreached = fragments_of(document)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            count = Count(schema, document, node, {})
            size = count.of(node.selection_set, _root(schema, node))
            sizes.append(size._replace(directives=size.directives + _own_directives(node)))
            still = {fragment.name.value for fragment in count.unreached()}
            unreached = {name: unreached[name] for name in unreached if name in still}
            is_mutation = node.operation is OperationType.MUTATION
            limits.check("mutations" if is_mutation else "root_fields", size.width)
            if node.operation is OperationType.SUBSCRIPTION:
                limits.check("stream_fields", size.fields)
    rest = Count(schema, document, None, {})
    sizes += [rest.fragment(name) for name in unreached]
    limits.check("depth", max((size.depth for size in sizes), default=0))
    for name in ("fields", "aliases", "directives"):
        limits.check(name, sum(getattr(size, name) for size in sizes))
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode):
            limits.check("repeats", _repeats(node.selection_set, fragments_of(document)))


def is_conditional(document: DocumentNode, operation: OperationDefinitionNode) -> bool:
    """Whether an operation has a directive, so that its variables may change its selections."""
    fragments = fragments_of(document)
    waiting: list[SelectionSetNode] = [operation.selection_set]
    seen: set[str] = set()
    while waiting:
        for selection in waiting.pop().selections:
            if selection.directives:
                return True
            if isinstance(selection, FragmentSpreadNode):
                name = selection.name.value
                if name not in seen:
                    seen.add(name)
                    waiting.append(fragments[name].selection_set)
            elif inner := _inner(selection):
                waiting.append(inner)
    return False


def assumed_page(value: object) -> int:
    """Page size assumed for the cost; an invalid one counts as MAX_PAGE."""
    return min(max(value, 1), MAX_PAGE) if type(value) is int else MAX_PAGE


def size_value(value: object) -> int | str | None:
    """Size that a value determines: a page size, a short text, or None for others.

    A list determines a page size by its length.
    """
    if isinstance(value, list):
        return assumed_page(len(value))
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else None
    return assumed_page(value) if type(value) is int else None


def items_in(value: object) -> int:
    """Count the items of all lists in a value, including nested ones."""
    items, waiting = 0, [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            items += len(value)
            waiting += [item for item in value if isinstance(item, dict | list)]
    return items


def too_complex(name: str, most: int, found: int) -> QueryTooComplex:
    """Error of a count that exceeds its limit."""
    # A count of a thousand digits is not readable.
    shown = min(found, 10**18)
    return QueryTooComplex(
        f"The query {EXCESS[name].format(found=shown)}; the limit is {most}.",
        details=[{"limit": name, "most": most, "found": shown}],
    )


def _repeats(selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> int:
    """Count the selections of the most frequent response name in one place.

    Each step is a field that was counted before, so the work is bounded by the limit on fields.
    """
    most = 0
    places: list[Sequence[SelectionSetNode]] = [[selections]]
    while places:
        names: Counter[str] = Counter()
        below: defaultdict[str, list[SelectionSetNode]] = defaultdict(list)
        waiting = [*places.pop()]
        while waiting:
            for selection in waiting.pop().selections:
                if isinstance(selection, FieldNode):
                    name = (selection.alias or selection.name).value
                    names[name] += 1
                    if selection.selection_set:
                        below[name].append(selection.selection_set)
                elif isinstance(selection, FragmentSpreadNode):
                    fragment = fragments.get(selection.name.value)
                    waiting += [fragment.selection_set] if fragment else []
                elif inner := _inner(selection):
                    waiting.append(inner)
        most = max(most, *names.values(), 0)
        places += below.values()
    return most


def _inner(selection: SelectionNode) -> SelectionSetNode | None:
    inner: SelectionSetNode | None = selection.selection_set  # type: ignore[attr-defined]
    return inner


def _root(schema: GraphQLSchema, operation: OperationDefinitionNode) -> GraphQLCompositeType | None:
    return schema.get_root_type(operation.operation)


def _own_directives(operation: OperationDefinitionNode) -> int:
    definitions = operation.variable_definitions or ()
    on_variables = [len(definition.directives or ()) for definition in definitions]
    return len(operation.directives or ()) + sum(on_variables)


def _defaults(operation: OperationDefinitionNode | None) -> dict[str, object]:
    definitions = (operation.variable_definitions or ()) if operation else ()
    return {
        definition.variable.name.value: _literal(definition.default_value)
        for definition in definitions
        if definition.default_value is not None
    }


def _literal(node: object) -> object:
    """Size in a literal; None if it is not a list, a text, an enum value or a short number."""
    if isinstance(node, ListValueNode):
        return len(node.values)
    if isinstance(node, StringValueNode | EnumValueNode):
        return node.value
    is_short = isinstance(node, IntValueNode) and len(node.value) <= len(str(MAX_PAGE))
    return int(node.value) if is_short and isinstance(node, IntValueNode) else None
