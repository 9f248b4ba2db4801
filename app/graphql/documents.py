"""GraphQL documents: prepared once, cached, and executed for a principal.

Strawberry's `Schema.execute` parses and validates on every call. Here a document is prepared once,
with the scopes, costs and plans of its operations.
"""

import asyncio
import sys
from collections import OrderedDict
from copy import copy
from dataclasses import dataclass, field
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
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule

from app.database.engine import Database, Replica
from app.database.faults import READ_ATTEMPTS, is_serialization_failure, pause_seconds
from app.domain.caller import Principal, Scope
from app.domain.stock import NO_PROBLEMS, RowProblems
from app.errors import (
    Internal,
    InventoryError,
    MalformedRequest,
    Unavailable,
    ValidationFailed,
    invalid_field,
    invalid_fields,
)
from app.graphql.code_hints import add_code_hints
from app.graphql.columnar import ColumnarExecutor, OperationPlans
from app.graphql.limits import Costs, QueryLimits, check_document, is_conditional
from app.graphql.schema.bound_tokens import field_of_unbound_tokens
from app.graphql.schema.budget import Budget
from app.graphql.schema.context import Context
from app.graphql.schema.relay import MAX_PAGE
from app.graphql.schema.schema import schema
from app.graphql.schema.scopes import needed_scopes
from app.graphql.single_statement import SingleStatement, single_statement_of
from app.graphql.variable_checks import (
    Variables,
    declared_variables,
    in_json_words,
    variable_problems,
)
from app.reads.replicas import choose_reader
from app.settings import Settings

log = structlog.get_logger()
MAX_DOCUMENT_ERRORS: Final = 20
LONGEST_MESSAGE: Final = 500
# Limits of the cache of a worker: the number of documents and the sum of their estimated bytes.
CACHED_DOCUMENTS: Final = 500
CACHED_BYTES: Final = 64 * 2**20
# The most bytes that a cached document takes: the document, its text with the parser's copies,
# each of its tokens with the plans, and each error of an invalid document.
DOCUMENT_BYTES: Final = 8 * 2**10
TEXT_COPIES: Final = 3
TOKEN_BYTES: Final = 2 * 2**10
PROBLEM_BYTES: Final = 4 * 2**10
SEVERAL_FIELDS: Final = "several"
NEEDS_EVENT_STREAM: Final = "Send a subscription with the header `Accept: text/event-stream`."
TOO_DEEP: Final = "The query is nested too deeply."
VALIDATION_RULES: Final = (*specified_rules, MaybeNullValidationRule)


@dataclass(slots=True)
class Operation:
    """An operation of a valid document, ready to be executed."""

    document: DocumentNode
    node: OperationDefinitionNode
    scopes: frozenset[Scope]
    costs: Costs
    # Plans of the columnar executor; None if the variables may change the selections.
    plans: OperationPlans | None
    # A field that tokens bound to warehouses may not select; None if there is none.
    unbound_field: str | None
    # Whether the operation has exactly one root field.
    is_alone: bool
    # Set if the query is a single SQL statement, at least with some variables.
    single: SingleStatement | None = None
    # Whether errors may suggest names of the schema.
    may_suggest: bool = True

    # These are computed once for all executions.
    name: str | None = field(init=False)
    # The name of the only root field in the schema, or `several`.
    root_field: str = field(init=False)
    is_mutation: bool = field(init=False)
    is_subscription: bool = field(init=False)

    def require_access(self, principal: Principal) -> None:
        """Require the scopes, and a token that may select the fields.

        Raises:
            InsufficientScope: a scope is missing, or the token is bound to warehouses.

        """
        for scope in sorted(self.scopes):
            principal.require(scope)
        if self.unbound_field is not None:
            principal.require_unbound(self.unbound_field)

    def __post_init__(self) -> None:
        """Read the facts of the document."""
        self.name = self.node.name.value if self.node.name else None
        [selection, *others] = self.node.selection_set.selections
        self.root_field = SEVERAL_FIELDS
        if isinstance(selection, FieldNode) and not others:
            self.root_field = selection.name.value
        self.is_mutation = self.node.operation is OperationType.MUTATION
        self.is_subscription = self.node.operation is OperationType.SUBSCRIPTION


PreparedDocument = tuple[Operation, ...] | InventoryError


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRules:
    """Rules for documents of clients. The service's own documents must only fit the schema."""

    limits: QueryLimits
    introspection: bool
    suggestions: bool

    @classmethod
    def of(cls, settings: Settings) -> "DocumentRules":
        """Rules of the settings."""
        return cls(
            limits=QueryLimits.of(settings),
            introspection=settings.introspection,
            suggestions=settings.suggestions,
        )


class Documents:
    """Prepares documents and caches the latest ones, within a number and a sum of bytes."""

    def __init__(self, rules: DocumentRules, *, capacity: int = CACHED_DOCUMENTS) -> None:
        self.limits = rules.limits
        self._rules = rules
        self._capacity = capacity
        self._cache: OrderedDict[str, tuple[PreparedDocument, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        """Count the cached documents."""
        return len(self._cache)

    def operation(self, text: str, name: str | None = None) -> Operation:
        """Operation of a document. The name is optional for a document with one operation.

        Raises:
            MalformedRequest: the text is not valid GraphQL.
            ValidationFailed: the document exceeds a limit, does not fit the schema, or does not
                have the operation.

        """
        # A document that is too long is not cached, not even as an error.
        self.limits.check("length", len(text))
        prepared = self._prepared(text)
        if isinstance(prepared, InventoryError):
            # A raised error keeps the variables of its callers, so the cached error is not raised.
            raise copy(prepared)
        matches = [operation for operation in prepared if name is None or operation.name == name]
        if len(matches) != 1:
            names = ", ".join(operation.name or "one without a name" for operation in prepared)
            problem = f"must name one operation of the document, which has: {names or 'none'}"
            raise invalid_field("operationName", problem)
        return matches[0]

    def _prepared(self, text: str) -> PreparedDocument:
        cached = self._cache.get(text)
        if cached is None:
            prepared = _prepare(text, rules=self._rules)
            cached = self._cache[text] = prepared, document_bytes(text, prepared)
            self.bytes += cached[1]
            while len(self._cache) > self._capacity or self.bytes > CACHED_BYTES:
                _, (_, size) = self._cache.popitem(last=False)
                self.bytes -= size
        else:
            self._cache.move_to_end(text)
        return cached[0]


def document_bytes(text: str, prepared: PreparedDocument) -> int:
    """Estimate the most bytes that a prepared document takes with its plans."""
    size = DOCUMENT_BYTES + TEXT_COPIES * sys.getsizeof(text)
    if isinstance(prepared, InventoryError):
        return size + PROBLEM_BYTES * len(prepared.details)
    return size + TOKEN_BYTES * sum(
        operation.document.token_count or 0 for operation in prepared[:1]
    )


@cache
def prepared_operations(text: str) -> dict[str | None, Operation]:
    """Operations of one of the service's own documents, by name.

    Raises:
        MalformedRequest: the text is not valid GraphQL.
        ValidationFailed: the document does not fit the schema.

    """
    prepared = _prepare(text, rules=None)
    if isinstance(prepared, InventoryError):
        raise prepared
    return {operation.name: operation for operation in prepared}


def _prepare(text: str, *, rules: DocumentRules | None) -> PreparedDocument:
    try:
        document = parse(text, max_tokens=rules.limits.tokens if rules else None)
    except GraphQLError as error:
        message = f"The query is not valid GraphQL: {_short(error.message)}"
        return MalformedRequest(message, details=_details(error))
    except RecursionError:
        return MalformedRequest(TOO_DEEP)
    try:
        if rules:
            check_document(schema._schema, document, rules.limits)  # noqa: SLF001
        errors = _errors(document, rules)
    except ValidationFailed as refusal:
        return refusal.with_traceback(None)
    except RecursionError:
        return ValidationFailed(TOO_DEEP)
    if errors:
        listing = " ".join(_short(error.message) for error in errors[:MAX_DOCUMENT_ERRORS])
        details = [detail for error in errors[:MAX_DOCUMENT_ERRORS] for detail in _details(error)]
        message = f"The query does not fit the schema: {listing}"
        return ValidationFailed(message, details=details)
    return tuple(
        _operation(document, node, may_suggest=rules is None or rules.suggestions)
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    )


def _operation(
    document: DocumentNode, node: OperationDefinitionNode, *, may_suggest: bool
) -> Operation:
    selections = node.selection_set.selections
    return Operation(
        document,
        node,
        scopes=needed_scopes(document, node),
        costs=Costs(schema._schema, document, node),  # noqa: SLF001
        unbound_field=field_of_unbound_tokens(schema._schema, document, node),  # noqa: SLF001
        plans=None if is_conditional(document, node) else OperationPlans(),
        is_alone=len(selections) == 1 and isinstance(selections[0], FieldNode),
        single=single_statement_of(schema._schema, document, node),  # noqa: SLF001
        may_suggest=may_suggest,
    )


def _errors(document: DocumentNode, rules: DocumentRules | None) -> list[GraphQLError]:
    """List the validation errors of a document."""
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
    columnar: bool,
    longest_page: int = MAX_PAGE,
    row_problems: RowProblems = NO_PROBLEMS,
) -> ExecutionResult:
    """Execute an operation for a principal, in one snapshot of the database.

    `limit` is the budget in units of cost. Without `columnar`, graphql-core completes lists.

    Raises:
        InsufficientScope: a scope is missing, or the token is bound; nothing was executed.
        QueryTooComplex: the query exceeded its budget.
        ValidationFailed: the variables are not valid, or the operation is a subscription; nothing
            was executed.

    """
    if operation.is_subscription:
        raise ValidationFailed(NEEDS_EVENT_STREAM)
    operation.require_access(principal)
    variables = declared_variables(schema._schema, operation.node, variables)  # noqa: SLF001

    single = operation.single is not None and operation.single.holds(variables)
    reader = database
    if not operation.is_mutation:
        reader = await choose_reader(database, principal.tenant_id)
    for attempt in range(1, READ_ATTEMPTS + 1):
        budget = Budget(limit)
        async with reader.snapshot(
            single=single, alone=operation.is_alone, tenant_id=principal.tenant_id
        ) as snapshot:
            result = await ColumnarExecutor.run(
                schema,
                operation.document,
                variables=variables,
                operation_name=operation.name,
                context=Context(
                    principal,
                    database,
                    snapshot,
                    budget=budget,
                    columnar=columnar,
                    plans=operation.plans,
                    longest_page=longest_page,
                    row_problems=row_problems,
                ),
            )
        if isinstance(reader, Replica) and (fault := _fault_of(result)):
            reader.avoid(fault)
            reader = database
            continue
        if operation.is_mutation or not _may_repeat(result):
            break
        await asyncio.sleep(pause_seconds(attempt))
    if result.errors and not operation.is_mutation:
        await add_code_hints(database, principal.tenant_id, result.errors, budget)
    if budget.is_exceeded and not operation.is_mutation:
        raise budget.refusal()
    budget.spend_answer(result.data)
    if result.data is None and result.errors and all(error.path is None for error in result.errors):
        raise variables_error(operation, variables, result.errors)
    return result


def _may_repeat(result: ExecutionResult) -> bool:
    """Whether the isolation level of the server did not let a query run beside a write."""
    return any(is_serialization_failure(_original_of(error)) for error in result.errors or ())


def _fault_of(result: ExecutionResult) -> Exception | None:
    """Return the first error of a fault, for example of a missing table; refusals are answers."""
    for error in result.errors or ():
        original = _original_of(error)
        if isinstance(original, Unavailable) or not isinstance(
            original, InventoryError | GraphQLError | None
        ):
            return original
    return None


def _original_of(error: GraphQLError) -> Exception | None:
    original = error.original_error
    while isinstance(original, GraphQLError) and original.original_error:
        original = original.original_error
    return original


def refusal_of(error: GraphQLError) -> InventoryError:
    """Error of a field for the client. An unexpected error is logged and masked as Internal."""
    original = _original_of(error)
    if isinstance(original, InventoryError):
        return original
    if original is None or isinstance(original, GraphQLError):
        return ValidationFailed(in_json_words(error.message))
    log.error("unexpected_error", path=error.path, exc_info=original)
    return Internal()


def variables_error(
    operation: Operation, variables: Variables, errors: list[GraphQLError]
) -> InventoryError:
    """Error that lists the invalid variables by path."""
    problems = variable_problems(
        schema._schema,  # noqa: SLF001
        operation.node,
        variables,
        hide_suggestions=not operation.may_suggest,
    )
    if problems:
        return invalid_fields(problems)
    messages = [in_json_words(error.message) for error in errors[:MAX_DOCUMENT_ERRORS]]
    return ValidationFailed(" ".join(messages))


def _details(error: GraphQLError) -> list[dict[str, object]]:
    return [
        {"line": location.line, "column": location.column, "message": _short(error.message)}
        for location in error.locations or ()
    ]


def _short(message: str) -> str:
    """Shorten a message of graphql-core, which may quote the request."""
    message = in_json_words(message)
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}.."
