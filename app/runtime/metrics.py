"""Metrics of a process, in the form of Prometheus.

Every label has a bounded number of values: names of the schema, templates of routes and codes of
errors. No label has a text of a client.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

# They would double the number of series.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_DELAYS: Final = (1, 2, 5, 10, 30, 60, 300, 900, 3_600)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "OPTIONS"})
OTHER_METHOD: Final = "other"
# The series whose look-up is cached.
SERIES: Final = 2_000
# The requests that wait to be recorded; more of them are lost.
MAX_NOTED: Final = 100_000
# The variable that makes prometheus-client share the values of several processes by files.
METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
# The route of a request whose path belongs to none.
UNMATCHED: Final = "unmatched"

REQUESTS: Final = Counter(
    "inventory_http_requests",
    "HTTP requests by method, route and status; 499: the client disconnected.",
    ["method", "route", "status"],
)
REQUEST_SECONDS: Final = Histogram(
    "inventory_http_request_duration_seconds",
    "The time from the head of a request to the end of its response.",
    ["method", "route"],
    buckets=_SECONDS,
)
GRAPHQL_OPERATIONS: Final = Counter(
    "inventory_graphql_operations",
    "GraphQL operations by root field (several: more than one) and first error code, or ok.",
    ["operation", "code"],
)
GRAPHQL_SECONDS: Final = Histogram(
    "inventory_graphql_operation_duration_seconds",
    "The time of requests with a GraphQL operation, by root field.",
    ["operation"],
    buckets=_SECONDS,
)
REFUSALS: Final = Counter(
    "inventory_refusals",
    "Requests with an error, by its code; a GraphQL request counts once for each of its codes.",
    ["code"],
)
CONNECTIONS_IN_USE: Final = Gauge(
    "inventory_database_connections_in_use",
    "Database connections in use.",
    multiprocess_mode="livesum",
)
CONNECTIONS_AWAITED: Final = Gauge(
    "inventory_database_connections_awaited",
    "Requests that wait for a database connection.",
    multiprocess_mode="livesum",
)
RETRIES: Final = Counter(
    "inventory_database_retries", "Transactions that were repeated after a transient fault."
)
WAITING_WRITES: Final = Gauge(
    "inventory_lane_waiting_writes",
    "Writes that wait for the transaction before theirs.",
    multiprocess_mode="livesum",
)
BATCH_WRITES: Final = Histogram(
    "inventory_lane_batch_writes",
    "Writes that share a transaction.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000),
)
EXPIRY_DELAY: Final = Histogram(
    "inventory_reservation_expiry_delay_seconds",
    "The time from the expiry of a reservation until its stock was released.",
    buckets=_DELAYS,
)
WEBHOOK_DELAY: Final = Histogram(
    "inventory_webhook_delay_seconds",
    "The age of the oldest change of a webhook's message after an attempt; outcome: delivered or "
    "failed.",
    ["outcome"],
    buckets=_DELAYS,
)
STREAM_DELAY: Final = Histogram(
    "inventory_stream_delay_seconds",
    "The age of a change when it is given to the open streams, by the clock of the worker.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
FAILED_JOBS: Final = Counter(
    "inventory_job_failures", "Failed or postponed steps of background jobs."
)
OPEN_STREAMS: Final = Gauge(
    "inventory_open_streams", "Open streams of changes.", multiprocess_mode="livesum"
)
CACHED: Final = Gauge(
    "inventory_cache_entries",
    "Entries of the caches of all workers.",
    ["cache"],
    multiprocess_mode="livesum",
)
CACHED_DOCUMENT_BYTES: Final = Gauge(
    "inventory_document_cache_bytes",
    "The estimated size of the cached GraphQL documents of all workers.",
    multiprocess_mode="livesum",
)


_rendering: Final = threading.Lock()


def metrics_registry() -> CollectorRegistry:
    """Return the registry of this process, or the one that adds up its workers."""
    if METRICS_DIRECTORY not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def metrics_page() -> bytes:
    """Return all metrics as text. They are rendered once a second, however many ask for them."""
    with _rendering:
        record_requests()
        return _rendered_metrics(int(time.monotonic()))


@lru_cache(maxsize=1)
def _rendered_metrics(_second: int) -> bytes:
    return generate_latest(metrics_registry())


class NotedRequest(NamedTuple):
    """A request that is not yet in the metrics."""

    method: str
    route: str
    status: int | None
    # None for a stream of events: it lasts as long as its client listens.
    seconds: float | None
    # The root field of a GraphQL operation, and the codes of all errors.
    root_field: str | None = None
    codes: tuple[str, ...] = ()


# A request only appends to this queue. It is emptied every second: a hundred requests together cost
# less processor time than one after the other, each with cold caches.
noted_requests: Final[deque[NotedRequest]] = deque(maxlen=MAX_NOTED)


def record_requests() -> None:
    """Add the noted requests to the metrics."""
    with suppress(IndexError):
        while True:
            _record(noted_requests.popleft())


def _record(request: NotedRequest) -> None:
    recorders = _of_request(request.method, request.route, request.status)
    recorders.add()
    if request.seconds is not None:
        recorders.observe(request.seconds)
    if request.root_field is not None:
        code = request.codes[0] if request.codes else "ok"
        recorders = _of_operation(request.root_field, code)
        recorders.add()
        if request.seconds is not None:
            recorders.observe(request.seconds)
    for code in request.codes:
        REFUSALS.labels(code).inc()


class Recorders(NamedTuple):
    """Functions that count a request and record its time."""

    add: Callable[[], None]
    observe: Callable[[float], None]


# The look-up of a series by its labels costs more than its change.
@lru_cache(maxsize=SERIES)
def _of_request(method: str, route: str, status: int | None) -> Recorders:
    method = method if method in _METHODS else OTHER_METHOD
    requests = REQUESTS.labels(method, route, str(status))
    return Recorders(requests.inc, REQUEST_SECONDS.labels(method, route).observe)


@lru_cache(maxsize=SERIES)
def _of_operation(root_field: str, code: str) -> Recorders:
    operations = GRAPHQL_OPERATIONS.labels(root_field, code)
    return Recorders(operations.inc, GRAPHQL_SECONDS.labels(root_field).observe)
