"""What an operation asks for at most, counted in one pass before anything is done about it.

Each fragment is counted once, however often it is spread, so the work grows with the length of the
document and not with what the document unfolds to. It needs no valid document: what is not in the
schema counts as a leaf, and validation refuses it later. Validation itself compares the fields of
one response name in pairs, so it is reached only by documents within the limits.
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
from app.graphql.schema.budget import INPUT
from app.graphql.schema.relay import MAX_PAGE
from app.graphql.variable_checks import LONGEST_LIST
from app.settings import Settings

# How many items a list counts that has no page size.
UNPAGED: Final = 5
# How many costs of an operation are remembered, by its page sizes.
KEPT: Final = 16
# The longest text in variables that is looked at for how much it asks for.
LONGEST_TEXT: Final = 40
WORDS: Final = {
    "length": "has {found} characters",
    "depth": "is nested {found} fields deep",
    "fields": "selects {found} fields",
    "aliases": "gives {found} aliases",
    "repeats": "selects one response name {found} times in one place",
    "root_fields": "has {found} root fields",
    "mutations": "has {found} mutations",
    "directives": "has {found} directives",
    "cost": "costs up to {found}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a document may ask for, its fragments unfolded."""

    length: int
    depth: int
    fields: int
    aliases: int
    repeats: int
    root_fields: int
    mutations: int
    directives: int
    cost: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return those of the settings."""
        return cls(
            length=settings.max_query_length,
            depth=settings.max_query_depth,
            fields=settings.max_query_fields,
            aliases=settings.max_query_aliases,
            repeats=settings.max_query_repeats,
            root_fields=settings.max_query_root_fields,
            mutations=settings.max_query_mutations,
            directives=settings.max_query_directives,
            cost=settings.max_query_cost,
        )

    def check(self, name: str, found: int) -> None:
        """Refuse more of something than its limit.

        Raises:
            QueryTooComplex: there is more.

        """
        most: int = getattr(self, name)
        if found > most:
            raise too_complex(name, most, found)


class Size(NamedTuple):
    """What a selection set unfolds to."""

    depth: int = 0
    fields: int = 0
    # Of the fields, those of the set itself.
    width: int = 0
    aliases: int = 0
    directives: int = 0
    # How many values the answer has at most: in any case, and for each item of the page that the
    # set is about, if it is a connection's.
    cost: int = 0
    cost_per_item: int = 0


class Count:
    """Counts one operation, with page sizes as its variables say."""

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        operation: OperationDefinitionNode | None,
        variables: Mapping[str, object],
    ) -> None:
        self._schema = schema
        self._fragments = _fragments(document)
        self._variables = {**_defaults(operation), **variables}
        self._sizes: dict[str, Size | None] = {}
        # The variables in the input of writes, and how often each is there.
        self.inputs: Counter[str] = Counter()
        # The variables that say how long a page or a series is.
        self.sizes: set[str] = set()

    def of(self, selections: SelectionSetNode | None, parent: GraphQLCompositeType | None) -> Size:
        """Return what a selection set of a type unfolds to.

        Raises:
            ValidationFailed: a fragment spreads itself.

        """
        found = [self._selection(it, parent) for it in selections.selections] if selections else []
        if not found:
            return Size()
        depths, *counts = zip(*found, strict=True)
        return Size(max(depths), *map(sum, counts))

    def unreached(self) -> Iterable[FragmentDefinitionNode]:
        """Return the fragments that were not counted."""
        return [it for name, it in self._fragments.items() if name not in self._sizes]

    def fragment(self, name: str) -> Size:
        """Return what a fragment unfolds to, counted at its first spread.

        Raises:
            ValidationFailed: it spreads itself.

        """
        if name not in self._sizes:
            fragment = self._fragments.get(name)
            self._sizes[name] = None
            condition = fragment.type_condition.name.value if fragment else ""
            self._sizes[name] = self.of(
                fragment.selection_set if fragment else None, self._type(condition)
            )
        size = self._sizes[name]
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
        # A spread is work too, also where it leads to nothing.
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
            return 1 + self._written(node) + inner.cost, 0
        if is_list_type(get_nullable_type(field.type)):
            if parent and parent.name.endswith("Connection"):
                return 1, inner.cost
            return 1 + self._items(node, field) * inner.cost, 0
        page = self._page(node, field) if inner.cost_per_item else 1
        return 1 + inner.cost + page * inner.cost_per_item, 0

    def _written(self, node: FieldNode) -> int:
        """Return the cost of the literals in a write's input, and note its variables."""
        items, waiting = 0, [it.value for it in node.arguments or ()]
        while waiting:
            value = waiting.pop()
            if isinstance(value, VariableNode):
                self.inputs[value.name.value] += 1
            elif isinstance(value, ObjectValueNode):
                waiting += [field.value for field in value.fields]
            elif isinstance(value, ListValueNode):
                items += len(value.values)
                waiting += value.values
        return items * INPUT

    def _items(self, node: FieldNode, field: GraphQLField) -> int:
        if "interval" not in field.args:
            return UNPAGED
        first, last, interval = (
            self._given(node, field, name) for name in ("from", "to", "interval")
        )
        return assumed_periods(first, last, interval)

    def _page(self, node: FieldNode, field: GraphQLField) -> int:
        return page_of(self._given(node, field, "first")) if "first" in field.args else UNPAGED

    def _given(self, node: FieldNode, field: GraphQLField, name: str) -> object:
        default = field.args[name].default_value
        given = next((it.value for it in node.arguments or () if it.name.value == name), None)
        if isinstance(given, VariableNode):
            variable = given.name.value
            self.sizes.add(variable)
            return size_of(self._variables.get(variable, default))
        return default if given is None else _literal(given)

    def _type(self, name: str) -> GraphQLCompositeType | None:
        type_ = self._schema.get_type(name)
        return type_ if is_composite_type(type_) else None


class Costs:
    """What an operation costs with given variables, remembered by the sizes in them."""

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
    ) -> None:
        self._of = schema, document, operation
        count = Count(*self._of, {})
        self._fixed = count.of(operation.selection_set, _root(schema, operation)).cost
        self._sizes = sorted(count.sizes)
        self._inputs = count.inputs
        self._known: dict[tuple[tuple[str, object], ...], int] = {}

    def cost(self, variables: Mapping[str, object]) -> int:
        """Return how many values the answer has at most, and what its writes cost."""
        writes = sum(
            # A longer list is refused as that.
            min(items_in(variables[name]), LONGEST_LIST) * times * INPUT
            for name, times in self._inputs.items()
            if name in variables
        )
        return writes + (self._answer(variables) if self._sizes else self._fixed)

    def _answer(self, variables: Mapping[str, object]) -> int:
        sizes = tuple((name, size_of(variables[name])) for name in self._sizes if name in variables)
        cost = self._known.get(sizes)
        if cost is None:
            if len(self._known) >= KEPT or len(sizes) > KEPT:
                self._known.clear()
            schema, _, operation = self._of
            count = Count(*self._of, variables)
            cost = count.of(operation.selection_set, _root(schema, operation)).cost
            self._known[sizes] = cost
        return cost


def check_document(schema: GraphQLSchema, document: DocumentNode, limits: Limits) -> None:
    """Refuse a document that asks for more than the limits, except the one on cost.

    Raises:
        QueryTooComplex: it asks for more.
        ValidationFailed: a fragment spreads itself.

    """
    sizes: list[Size] = []
    unreached = _fragments(document)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            count = Count(schema, document, node, {})
            size = count.of(node.selection_set, _root(schema, node))
            sizes.append(size._replace(directives=size.directives + _own_directives(node)))
            still = {it.name.value for it in count.unreached()}
            unreached = {name: it for name, it in unreached.items() if name in still}
            is_mutation = node.operation is OperationType.MUTATION
            limits.check("mutations" if is_mutation else "root_fields", size.width)
    rest = Count(schema, document, None, {})
    sizes += [rest.fragment(name) for name in unreached]
    limits.check("depth", max((size.depth for size in sizes), default=0))
    for name in ("fields", "aliases", "directives"):
        limits.check(name, sum(getattr(size, name) for size in sizes))
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode):
            limits.check("repeats", _repeats(node.selection_set, _fragments(document)))


def is_conditional(document: DocumentNode, operation: OperationDefinitionNode) -> bool:
    """Tell whether what an operation selects may depend on its variables: whether it skips any."""
    fragments = _fragments(document)
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


def page_of(value: object) -> int:
    """Return how long a page counts that is asked for so; what is no length counts most."""
    return min(max(value, 1), MAX_PAGE) if type(value) is int else MAX_PAGE


def size_of(value: object) -> int | str | None:
    """Return what a value in variables says of a size, of which little is to be remembered."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else None
    return page_of(value) if type(value) is int else None


def items_in(value: object) -> int:
    """Return the number of items in the lists of a value, those in its objects too."""
    items, waiting = 0, [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            items += len(value)
            waiting += [it for it in value if isinstance(it, dict | list)]
    return items


def too_complex(name: str, most: int, found: int) -> QueryTooComplex:
    """Return the refusal of more than a limit."""
    # A number of a thousand digits is no use to anybody.
    shown = min(found, 10**18)
    return QueryTooComplex(
        f"The query {WORDS[name].format(found=shown)}; the limit is {most}.",
        details=[{"limit": name, "most": most, "found": shown}],
    )


def _repeats(selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> int:
    """Return how often one response name is selected in one place; each step is a field counted."""
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


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {
        definition.name.value: definition
        for definition in document.definitions
        if isinstance(definition, FragmentDefinitionNode)
    }


def _inner(selection: SelectionNode) -> SelectionSetNode | None:
    inner: SelectionSetNode | None = selection.selection_set  # type: ignore[attr-defined]
    return inner


def _root(schema: GraphQLSchema, operation: OperationDefinitionNode) -> GraphQLCompositeType | None:
    return schema.get_root_type(operation.operation)


def _own_directives(operation: OperationDefinitionNode) -> int:
    variables = [len(it.directives or ()) for it in operation.variable_definitions or ()]
    return len(operation.directives or ()) + sum(variables)


def _defaults(operation: OperationDefinitionNode | None) -> dict[str, object]:
    definitions = (operation.variable_definitions or ()) if operation else ()
    return {
        definition.variable.name.value: _literal(definition.default_value)
        for definition in definitions
        if definition.default_value is not None
    }


def _literal(node: object) -> object:
    """Return the size that a literal says; a number of so many digits is no size."""
    if isinstance(node, StringValueNode | EnumValueNode):
        return node.value
    is_short = isinstance(node, IntValueNode) and len(node.value) <= len(str(MAX_PAGE))
    return int(node.value) if is_short and isinstance(node, IntValueNode) else None
