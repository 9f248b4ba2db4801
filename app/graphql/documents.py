"""Documents, prepared once and executed often.

Strawberry's own `Schema.execute` parses and validates on every call; here a document is prepared
once, with the scopes that its operations need, and executed by the schema's executor class.
"""

import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

import structlog
from graphql import (
    ASTValidationRule,
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
    type_from_ast,
    validate,
)
from graphql.utilities import validate_input_value
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from app.database.engine import Database
from app.domain.caller import Principal, Scope
from app.errors import (
    DETAILED,
    Internal,
    InventoryError,
    MalformedRequest,
    ValidationFailed,
    invalid_field,
    invalid_fields,
)
from app.graphql.columnar.executor import OperationPlans, execute_operation
from app.graphql.limits import Costs, Limits, check_document, is_conditional
from app.graphql.schema.budget import Budget
from app.graphql.schema.context import Context
from app.graphql.schema.relay import MAX_PAGE
from app.graphql.schema.schema import schema
from app.graphql.schema.scopes import needed_scopes
from app.graphql.single_statement import Single, single_of
from app.graphql.variable_checks import declared_variables, path_text
from app.settings import Settings

log = structlog.get_logger()
MAX_DOCUMENT_ERRORS: Final = 20
LONGEST_MESSAGE: Final = 500
# How many bytes of documents a worker keeps, and the most that one takes: itself, its text with the
# parser's copies, each of its tokens with what is planned of it, and each problem of a bad one.
MOST_BYTES: Final = 64 * 2**20
DOCUMENT_BYTES: Final = 8 * 2**10
TEXT_COPIES: Final = 3
TOKEN_BYTES: Final = 2 * 2**10
PROBLEM_BYTES: Final = 4 * 2**10
TOO_DEEP: Final = "The query is nested too deeply."
VALIDATION_RULES: Final = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)
_MISSING_OR_UNKNOWN: Final = re.compile(
    r"Expected value of type '[^']+' (to include required|not to include unknown) field '([^']*)'"
)


@dataclass(slots=True)
class Operation:
    """An operation of a valid document, ready to run."""

    document: DocumentNode
    node: OperationDefinitionNode
    scopes: frozenset[Scope]
    costs: Costs
    # What was learned of how to complete its objects, unless it depends on variables.
    plans: OperationPlans | None
    # Whether it has one root field, and so none beside it that could fail.
    is_alone: bool
    # Whether it is a query of a single SQL statement, which may depend on its variables.
    single: Single | None = None
    # Whether errors may suggest names of the schema.
    may_suggest: bool = True

    @property
    def name(self) -> str | None:
        """The name, if it has one."""
        return self.node.name.value if self.node.name else None

    @property
    def is_mutation(self) -> bool:
        """Whether it writes."""
        return self.node.operation is OperationType.MUTATION


Variables = Mapping[str, object]
PreparedDocument = tuple[Operation, ...] | InventoryError


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRules:
    """What documents of clients are held to; the service's own are held to the schema alone."""

    max_tokens: int
    limits: Limits
    introspection: bool
    suggestions: bool

    @classmethod
    def of(cls, settings: Settings) -> "DocumentRules":
        """Return those of the settings."""
        return cls(
            max_tokens=settings.max_query_tokens,
            limits=Limits.of(settings),
            introspection=settings.introspection,
            suggestions=settings.suggestions,
        )


class Documents:
    """Prepares documents, and keeps the latest: so many, and so many bytes of them."""

    def __init__(self, *, kept: int, rules: DocumentRules) -> None:
        self.limits = rules.limits
        self._rules = rules
        self._most = kept
        self._kept: OrderedDict[str, tuple[PreparedDocument, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        """Return the number of documents that are kept."""
        return len(self._kept)

    def operation(self, text: str, name: str | None = None) -> Operation:
        """Return an operation of a document, which needs a name only if there are several.

        Raises:
            MalformedRequest: the text is no GraphQL.
            ValidationFailed: the document asks for too much, does not fit the schema, or has no
                such operation.

        """
        # What is too long is not even kept as refused.
        self.limits.check("length", len(text))
        prepared = self._prepared(text)
        if isinstance(prepared, InventoryError):
            # It is raised as often as the document is sent: the traceback must not grow.
            raise prepared.with_traceback(None)
        found = [operation for operation in prepared if name is None or operation.name == name]
        if len(found) != 1:
            names = ", ".join(str(operation.name) for operation in prepared)
            problem = f"must name one operation of the document, which has: {names or 'none'}"
            raise invalid_field("operationName", problem)
        return found[0]

    def _prepared(self, text: str) -> PreparedDocument:
        kept = self._kept.get(text)
        if kept is None:
            prepared = _prepare(text, rules=self._rules)
            kept = self._kept[text] = prepared, size_of(text, prepared)
            self.bytes += kept[1]
            while len(self._kept) > self._most or self.bytes > MOST_BYTES:
                _, (_, size) = self._kept.popitem(last=False)
                self.bytes -= size
        else:
            self._kept.move_to_end(text)
        return kept[0]


def size_of(text: str, prepared: PreparedDocument) -> int:
    """Return the bytes that a prepared document takes at most, with its plans."""
    size = DOCUMENT_BYTES + TEXT_COPIES * sys.getsizeof(text)
    if isinstance(prepared, InventoryError):
        return size + PROBLEM_BYTES * len(prepared.details)
    return size + TOKEN_BYTES * sum(it.document.token_count or 0 for it in prepared[:1])


@cache
def prepared_operations(text: str) -> dict[str | None, Operation]:
    """Return every operation of a document of the service's own, by name.

    Raises:
        MalformedRequest: the text is no GraphQL.
        ValidationFailed: the document does not fit the schema.

    """
    prepared = _prepare(text, rules=None)
    if isinstance(prepared, InventoryError):
        raise prepared
    return {operation.name: operation for operation in prepared}


def _prepare(text: str, *, rules: DocumentRules | None) -> PreparedDocument:
    try:
        document = parse(text, max_tokens=rules.max_tokens if rules else None)
    except GraphQLError as error:
        message = f"The query is no GraphQL: {_short(error.message)}"
        return MalformedRequest(message, details=_at(error))
    except RecursionError:
        return MalformedRequest(TOO_DEEP)
    try:
        if rules:
            check_document(schema._schema, document, rules.limits)  # noqa: SLF001
        errors = _problems(document, rules)
    except ValidationFailed as refusal:
        return refusal
    except RecursionError:
        return ValidationFailed(TOO_DEEP)
    if errors:
        listing = " ".join(_short(error.message) for error in errors[:MAX_DOCUMENT_ERRORS])
        details = [detail for error in errors[:MAX_DOCUMENT_ERRORS] for detail in _at(error)]
        message = f"The query does not fit the schema: {listing}"
        return ValidationFailed(message, details=details)
    return tuple(
        Operation(
            document,
            node,
            needed_scopes(document, node),
            Costs(schema._schema, document, node),  # noqa: SLF001
            None if is_conditional(document, node) else OperationPlans(),
            [type(it) for it in node.selection_set.selections] == [FieldNode],
            single=single_of(schema._schema, document, node),  # noqa: SLF001
            may_suggest=rules is None or rules.suggestions,
        )
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    )


def _problems(document: DocumentNode, rules: DocumentRules | None) -> list[GraphQLError]:
    """Return how a document does not fit the schema."""
    extra: tuple[type[ASTValidationRule], ...] = ()
    if rules and not rules.introspection:
        extra = (NoSchemaIntrospectionCustomRule,)
    hide_suggestions = rules is not None and not rules.suggestions
    return validate(
        schema._schema,  # noqa: SLF001
        document,
        (*VALIDATION_RULES, *extra),
        max_errors=MAX_DOCUMENT_ERRORS,
        hide_suggestions=hide_suggestions,
    )


async def run(
    operation: Operation,
    variables: Variables,
    principal: Principal,
    database: Database,
    *,
    limit: int,
    may_bulk: bool,
    longest_page: int = MAX_PAGE,
) -> ExecutionResult:
    """Execute an operation for a principal, in one snapshot of the database.

    Raises:
        InsufficientScope: a scope is missing; nothing was executed.
        QueryTooComplex: a query was stopped, because its answer costs more than the limit.
        ValidationFailed: the variables do not fit; nothing was executed.

    """
    for scope in sorted(operation.scopes):
        principal.require(scope)
    variables = declared_variables(schema._schema, operation.node, variables)  # noqa: SLF001

    single = operation.single is not None and operation.single.holds(variables)
    budget = Budget(limit)
    async with database.snapshot(
        single=single, alone=operation.is_alone, tenant_id=principal.tenant_id
    ) as snapshot:
        result = await execute_operation(
            schema,
            operation.document,
            variables=variables,
            operation_name=operation.name,
            context=Context(
                principal,
                database,
                snapshot,
                budget=budget,
                may_bulk=may_bulk,
                plans=operation.plans,
                longest_page=longest_page,
            ),
        )
    if budget.is_exceeded and not operation.is_mutation:
        raise budget.refusal()
    budget.spend_answer(result.data)
    if result.data is None and result.errors and all(error.path is None for error in result.errors):
        raise _variables_problem(operation, variables, result.errors)
    return result


def refusal_of(error: GraphQLError) -> InventoryError:
    """Return what a field's error means; what is not ours is logged and masked."""
    original = error.original_error
    while isinstance(original, GraphQLError) and original.original_error:
        original = original.original_error
    if isinstance(original, InventoryError):
        return original
    if original is None or isinstance(original, GraphQLError):
        return ValidationFailed(error.message)
    log.error("unexpected_error", path=error.path, exc_info=original)
    return Internal("The service failed. Report this request id if it happens again.")


def _variables_problem(
    operation: Operation, variables: Variables, errors: list[GraphQLError]
) -> InventoryError:
    """Return which variables do not fit, each by its path."""
    problems: list[tuple[str, str]] = []
    with suppress(_Enough):
        _note_problems(operation, variables, problems)
    if problems:
        return invalid_fields(problems)
    return ValidationFailed(" ".join(error.message for error in errors[:MAX_DOCUMENT_ERRORS]))


class _Enough(Exception):
    """As many problems were found as an answer names."""


def _note_problems(
    operation: Operation, variables: Variables, problems: list[tuple[str, str]]
) -> None:
    for definition in operation.node.variable_definitions or ():
        name = definition.variable.name.value
        type_ = type_from_ast(schema._schema, definition.type)  # noqa: SLF001
        if name not in variables and definition.default_value is not None:
            continue

        def note(error: GraphQLError, path: list[str | int], name: str = name) -> None:
            field, words = _in_words(error)
            problems.append((path_text(name, *path, *field), words))
            if len(problems) >= DETAILED:
                raise _Enough

        validate_input_value(
            variables.get(name),
            type_,  # type: ignore[arg-type]
            note,
            hide_suggestions=not operation.may_suggest,
        )


def _in_words(error: GraphQLError) -> tuple[list[str], str]:
    """Return which field of a value is wrong, none if it is the value, and what it must be."""
    if error.original_error is not None:
        return [], str(error.original_error)
    if error.message.startswith("Expected value of non-null type"):
        return [], "is required"
    if found := _MISSING_OR_UNKNOWN.match(error.message):
        return [found[2]], "is required" if found[1].startswith("to") else "is not known"
    return [], f"is not valid: {error.message.rstrip('.?')}"


def _at(error: GraphQLError) -> list[dict[str, object]]:
    return [
        {"line": place.line, "column": place.column, "message": _short(error.message)}
        for place in error.locations or ()
    ]


def _short(message: str) -> str:
    """Return a message that does not send back all that it was sent."""
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}.."
