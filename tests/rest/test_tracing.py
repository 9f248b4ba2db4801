"""Spans of a request: its operation and statements, in the trace of the client."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar, Final

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs

from app.runtime.observation import start_tracing
from tests.ledger.writes import SET
from tests.service import Service, level, running, sku, warehouse

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = "00f067aa0ba902b7"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Collect the finished spans."""
    exporter = InMemorySpanExporter()
    stop = start_tracing(SimpleSpanProcessor(exporter))
    yield exporter
    stop()


def spans_of(exporter: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    by_parent: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        parent = f"{span.parent.span_id:016x}" if span.parent else ""
        by_parent.setdefault(parent, []).append(span)
    return by_parent


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


async def test_a_request_continues_the_trace_with_its_operation_and_statements(
    service: Service, exporter: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    await service.rest("GET", "/api/inventory?q=secret", headers=headers)

    by_parent = spans_of(exporter)
    [request] = by_parent[PARENT]
    [operation] = [span for span in by_parent[id_of(request)] if span.kind is SpanKind.INTERNAL]
    statements = by_parent[id_of(operation)]
    assert (request.name, request.kind) == ("GET /api/inventory", SpanKind.SERVER)
    assert (request.attributes or {})["http.response.status_code"] == 200
    assert operation.name == "graphql skus"
    assert statements
    assert all(span.kind is SpanKind.CLIENT for span in statements)
    spans = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {TRACE}
    assert "secret" not in "".join(span.to_json() for span in spans)


async def test_statements_of_a_batch_belong_to_its_first_request(
    service: Service, exporter: InMemorySpanExporter
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    exporter.clear()
    content = {"sku": "A", "warehouseId": main.id, "quantity": 1, "reason": "cycle_count"}
    await asyncio.gather(*(service.data(SET, {"input": content}) for _ in range(5)))
    await service.data(SET, {"input": content})

    spans = {id_of(span): span for span in exporter.get_finished_spans()}
    posts = [span for span in spans.values() if span.name == "POST /graphql"]
    assert len(posts) == 6
    for span in spans.values():
        if span.kind is SpanKind.CLIENT:
            # No statement is in a trace of its own.
            assert span.parent is not None
            assert f"{span.parent.span_id:016x}" in spans
    writes = [span for span in spans.values() if "adjustment" in span.name]
    assert {span.context.trace_id for span in writes if span.context} <= {
        span.context.trace_id for span in posts if span.context
    }


async def test_an_error_is_marked_without_its_message(
    service: Service, exporter: InMemorySpanExporter
) -> None:
    with capture_logs():
        await service.rest("GET", "/api/inventory/secret-code")
    [request] = [span for span in exporter.get_finished_spans() if not span.parent]
    assert (request.attributes or {})["http.response.status_code"] == 404
    assert request.status.is_ok or request.status.is_unset
    assert not [span for span in exporter.get_finished_spans() if span.events]
    await service.rest("GET", "/x", headers={"traceparent": "00-garbage", "tracestate": "=,=" * 99})
    assert len([span for span in exporter.get_finished_spans() if not span.parent]) == 2


class Collector(BaseHTTPRequestHandler):
    """A collector that keeps what it receives."""

    received: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Write no log."""


async def test_spans_are_sent_to_the_collector_of_the_environment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Collector.received.clear()
    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-inventory")
    try:
        async with (
            running(database_url, tracing=True) as (app, client),
            app.router.lifespan_context(app),
        ):
            await client.get("/healthz")
    finally:
        server.shutdown()
        server.server_close()
    [(path, body)] = Collector.received
    assert path == "/v1/traces"
    assert b"shop-inventory" in body
    assert b"GET /healthz" in body
