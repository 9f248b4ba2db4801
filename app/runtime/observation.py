"""Spans of OpenTelemetry, and log entries of slow statements.

A span is made for a request, for its GraphQL operation, and for each statement. The library is an
extra. Without tracing and without a limit for slow statements, every function returns at once.
"""

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import structlog

from app.errors import Unavailable

if TYPE_CHECKING:
    from opentelemetry.context import Context as SpanContext
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

log = structlog.get_logger()
_TABLES: Final = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+([a-z_]+)")
# The tables in the name of a statement.
MAX_NAMED_TABLES: Final = 5
MAX_LOGGED_TEXT: Final = 2_000
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class _Observers:
    """The observers of a process, as logs are of a process."""

    tracer: "Tracer | None" = None
    slow_seconds = math.inf


def log_slow_statements(milliseconds: int | None) -> None:
    """Log the statements that take longer; None for no statement."""
    _Observers.slow_seconds = math.inf if milliseconds is None else milliseconds / 1000


def require_opentelemetry() -> None:
    """Require the extra.

    Raises:
        Unavailable: it is not installed.

    """
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415
        import opentelemetry.sdk.trace  # noqa: F401, PLC0415
    except ImportError as error:
        message = (
            "INVENTORY_TRACING needs OpenTelemetry. Run: pip install 'inventory-api[opentelemetry]'"
        )
        raise Unavailable(message) from error


def start_tracing(processor: "SpanProcessor | None" = None) -> Callable[[], None]:
    """Send spans to the collector that the variables OTEL_.. name; return a function to stop.

    Raises:
        Unavailable: the extra is not installed.

    """
    require_opentelemetry()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    os.environ.setdefault("OTEL_SERVICE_NAME", "inventory")
    provider = TracerProvider()
    provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    _Observers.tracer = provider.get_tracer("inventory")

    def stop() -> None:
        _Observers.tracer = None
        provider.shutdown()

    return stop


def request_span(
    method: str, carrier: Callable[[], Mapping[str, str]]
) -> "AbstractContextManager[Span | None]":
    """Make the span of a request, which continues the trace of its headers."""
    return _NOTHING if _Observers.tracer is None else _request_span(method, carrier())


@contextmanager
def _request_span(method: str, carrier: Mapping[str, str]) -> "Iterator[Span]":
    from opentelemetry.trace import SpanKind  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    parent = TraceContextTextMapPropagator().extract(carrier)
    with _span(method, context=parent, kind=SpanKind.SERVER) as span:
        yield span


def finish_request_span(span: "Span", method: str, route: str, status: int | None) -> None:
    """Set the name and the attributes of the span of a request."""
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    if status is None or status >= 500:  # noqa: PLR2004 - the class of server errors
        span.set_status(StatusCode.ERROR)


def operation_span(root_field: str) -> AbstractContextManager[object]:
    """Make the span of a GraphQL operation."""
    if _Observers.tracer is None:
        return _NOTHING
    return _span(f"graphql {root_field}")


def span_context() -> "SpanContext | None":
    """Return the span to which the spans of the current task belong."""
    if _Observers.tracer is None:
        return None
    from opentelemetry.context import get_current  # noqa: PLC0415

    return get_current()


def enter_span(context: "SpanContext | None") -> None:
    """Let the next spans of the current task belong to a span."""
    if context is not None:
        from opentelemetry.context import attach  # noqa: PLC0415

        attach(context)


def observed_statement(text: str) -> AbstractContextManager[object]:
    """Observe the execution of a statement."""
    if _Observers.tracer is None and _Observers.slow_seconds == math.inf:
        return _NOTHING
    return _observed_statement(text)


@contextmanager
def _observed_statement(text: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        with _statement_span(text):
            yield
    finally:
        seconds = time.perf_counter() - began
        if seconds > _Observers.slow_seconds:
            log.warning(
                "slow_statement",
                statement=statement_name(text),
                milliseconds=round(seconds * 1000),
                text=text[:MAX_LOGGED_TEXT],
            )


def _statement_span(text: str) -> AbstractContextManager[object]:
    if _Observers.tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    # Only values are parameters, so the text has nothing of a client.
    attributes: dict[str, Any] = {"db.query.text": text, "db.query.summary": statement_name(text)}
    return _span(statement_name(text), kind=SpanKind.CLIENT, attributes=attributes)


@contextmanager
def _span(name: str, **options: Any) -> "Iterator[Span]":  # noqa: ANN401 - as OpenTelemetry's
    """Make a span. Messages of errors, which may quote values of rows, are not recorded."""
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    assert _Observers.tracer is not None  # noqa: S101 - checked by the callers
    with _Observers.tracer.start_as_current_span(
        name, record_exception=False, set_status_on_exception=False, **options
    ) as span:
        try:
            yield span
        except BaseException:
            span.set_status(StatusCode.ERROR)
            raise


@lru_cache(maxsize=500)
def statement_name(text: str) -> str:
    """Name a statement by its verb and its tables, such as `SELECT sku stock_level`."""
    tables = list(dict.fromkeys(_TABLES.findall(text)))
    return " ".join([text.partition(" ")[0], *tables[:MAX_NAMED_TABLES]]).strip()
