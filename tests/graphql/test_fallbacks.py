"""Fallbacks on graphql-core are counted, unexpected ones are logged, and the data is equal."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from graphql import ExecutionResult, GraphQLError, parse
from graphql.pyutils import Path
from structlog.testing import capture_logs

from app.graphql.columnar import ColumnarExecutor, OperationPlans, completions
from app.graphql.columnar.fallbacks import LOG_INTERVAL_SECONDS, Fallbacks, NotColumnar
from tests.graphql.toy import TOY, ToyContext

PATH = Path(None, "sound", "Query")


@pytest.fixture(autouse=True)
def every_level_is_logged() -> None:
    """Forget the level of an earlier service; the tests of all modules restore it."""
    structlog.reset_defaults()


@pytest.fixture
def fallbacks(monkeypatch: pytest.MonkeyPatch) -> Fallbacks:
    """Count from zero, so that the first exception is logged."""
    new = Fallbacks()
    monkeypatch.setattr(ColumnarExecutor, "fallbacks", new)
    return new


async def execute(query: str, *, columnar: bool = True) -> ExecutionResult:
    plans = OperationPlans() if columnar else None
    return await ColumnarExecutor.run(
        TOY,
        parse(query),
        variables={},
        operation_name=None,
        context=ToyContext(columnar=columnar, plans=plans),
    )


def fail_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every reader of a column raise; graphql-core does not use these readers."""

    def reader(_path: str) -> Callable[[Any], Any]:
        def read(_objects: Any) -> Any:
            message = "injected"
            raise ZeroDivisionError(message)

        return read

    monkeypatch.setattr(completions, "_attribute_reader", reader)


async def test_an_exception_in_a_column_is_counted_logged_and_completed_by_graphql_core(
    fallbacks: Fallbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "{ sound { number below { number } } }"
    plain = await execute(query, columnar=False)
    fail_in_columns(monkeypatch)
    with capture_logs() as lines:
        result = await execute(query)

    assert result.errors is None
    assert result.formatted == plain.formatted
    # The list `sound`, its five trees, and the trees below them.
    assert fallbacks.exceptions["ZeroDivisionError"] > 5
    assert not fallbacks.expected
    [line] = lines
    assert line["event"] == "columnar_fallback"
    assert line["log_level"] == "warning"
    assert line["exception"] == "ZeroDivisionError"
    assert line["path"] == ["sound"]
    assert str(line["exc_info"]) == "injected"


async def test_an_exception_in_an_awaited_column_is_counted_and_logged(
    fallbacks: Fallbacks,
) -> None:
    # Tree 11 has no parent.
    query = "{ trees(first: 12) { number parent { number } } }"
    with capture_logs() as lines:
        result = await execute(query)

    assert result.formatted == (await execute(query, columnar=False)).formatted
    assert result.errors
    assert result.errors[0].path == ["trees", 11, "parent"]
    assert fallbacks.exceptions["ValueError"] >= 1
    assert fallbacks.repeated_queries == 1
    assert [line["exception"] for line in lines] == ["ValueError"]


async def test_a_field_error_is_logged_with_its_own_path(fallbacks: Fallbacks) -> None:
    with capture_logs() as lines:
        result = await execute("{ trees(first: 6) { shout } }")

    assert result.errors
    assert fallbacks.exceptions["ValueError"] >= 1
    assert [line["path"] for line in lines] == [["trees", 5, "shout"]]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("{ sound { named { __typename } } }", "an abstract type"),
        ("{ tree(number: 7) { name } }", "null in a non-null type"),
    ],
)
async def test_an_expected_fallback_is_counted_apart_and_not_logged(
    fallbacks: Fallbacks, query: str, reason: str
) -> None:
    with capture_logs() as lines:
        result = await execute(query)

    assert result.formatted == (await execute(query, columnar=False)).formatted
    assert {*fallbacks.expected} == {reason}
    assert not fallbacks.exceptions
    assert lines == []


async def test_a_query_in_columns_has_no_fallback(fallbacks: Fallbacks) -> None:
    query = "{ sound { number wide flags grid below { number } friend { number } whisper } }"
    result = await execute(query)

    assert result.formatted == (await execute(query, columnar=False)).formatted
    assert (fallbacks.expected, fallbacks.exceptions, fallbacks.repeated_queries) == ({}, {}, 0)


async def test_the_introspection_of_the_schema_is_an_expected_fallback(
    fallbacks: Fallbacks,
) -> None:
    with capture_logs() as logs:
        result = await execute("{ __schema { types { name fields { name } } } }")

    assert result.errors is None
    assert (dict(fallbacks.exceptions), logs) == ({}, [])


def test_many_exceptions_are_counted_and_logged_at_a_bounded_rate() -> None:
    now = 0.0
    fallbacks = Fallbacks(clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(100):
            fallbacks.count(ValueError("a"), PATH)
        now = LOG_INTERVAL_SECONDS
        fallbacks.count(GraphQLError("b", original_error=KeyError("b")), PATH)
        fallbacks.count(NotColumnar("c"), PATH)

    assert fallbacks.exceptions == {"ValueError": 100, "KeyError": 1}
    assert fallbacks.expected == {"c": 1}
    assert [(line["exception"], line["unlogged"]) for line in lines] == [
        ("ValueError", 0),
        ("KeyError", 99),
    ]
    assert all(line["path"] == ["sound"] for line in lines)
