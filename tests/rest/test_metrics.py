"""Metrics count every request once, under labels that no client can choose."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from app.database.faults import DatabaseFault, Fault, FaultKind
from app.database.session import DriverSession
from app.errors import MalformedRequest
from app.graphql.documents import SEVERAL_FIELDS
from app.graphql.schema.enums import ErrorCode
from app.graphql.schema.schema import schema
from app.http.edge import HttpEdge
from app.main import _record_metrics
from app.runtime import metrics
from app.runtime.metrics import OTHER_METHOD, UNMATCHED, noted_requests, record_requests
from app.settings import Settings
from app.writes.expiry import expire_reservations
from tests.clocks import set_clock
from tests.service import Service, level, new_tenant, running, sku, warehouse


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """Run the service with metrics and an empty tenant."""
    async with running(database_url, metrics=True) as (app, client):
        database = app.state.database
        yield Service(app, client, database, await new_tenant(database))


Sample = tuple[str, frozenset[tuple[str, str]]]


def samples() -> dict[Sample, float]:
    """Return the values of all series of the service."""
    record_requests()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in REGISTRY.collect()
        if family.name.startswith("inventory_")
        for sample in family.samples
    }


def added(before: dict[Sample, float], name: str, **labels: str) -> float:
    """Return by how much a series has grown."""
    key = name, frozenset(labels.items())
    return samples().get(key, 0) - before.get(key, 0)


@pytest.mark.parametrize("has_metrics", [False, True])
def test_refusals_wait_to_be_counted_only_with_metrics(has_metrics: bool) -> None:  # noqa: FBT001
    record_requests()
    edge = HttpEdge(Starlette(), has_metrics=has_metrics)
    edge.refusal(MalformedRequest("a broken head"), path=None)

    assert len(noted_requests) == has_metrics


async def test_requests_are_counted_by_method_route_and_status(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5)), sku("B", level(main, 5))])
    before = samples()
    for code in ("A", "B", "C"):
        await service.rest("GET", f"/api/inventory/{code}")
    await service.rest("GET", "/api/inventory/A", token=None)
    await service.rest("GET", f"/nothing/{service.tenant_id}")

    route = {"method": "GET", "route": "/api/inventory/{sku}"}
    for status, count in (("200", 2), ("404", 1), ("401", 1)):
        assert added(before, "inventory_http_requests_total", **route, status=status) == count
    assert added(before, "inventory_http_request_duration_seconds_count", **route) == 4
    assert (
        added(before, "inventory_http_requests_total", method="GET", route=UNMATCHED, status="404")
        == 1
    )
    assert added(before, "inventory_refusals_total", code="INVENTORY_NOT_FOUND") == 1
    assert added(before, "inventory_refusals_total", code="UNAUTHENTICATED") == 1


async def test_graphql_operations_are_counted_by_root_field_and_code(service: Service) -> None:
    before = samples()
    await service.graphql("query Mine { mine: skus { totalCount } }")
    await service.graphql("{ skus { totalCount } warehouses { id } }")
    await service.graphql('{ sku(sku: "A") { id } a: adjustments(after: "x") { totalCount } }')
    await service.graphql('mutation { createSku(input: {sku: "A", title: "A"}) { replayed } }')
    await service.graphql("{ nothing }")

    total = "inventory_graphql_operations_total"
    assert added(before, total, operation="skus", code="ok") == 1
    assert added(before, total, operation=SEVERAL_FIELDS, code="ok") == 1
    assert added(before, total, operation=SEVERAL_FIELDS, code="INVALID_CURSOR") == 1
    assert added(before, total, operation="createSku", code="INSUFFICIENT_SCOPE") == 1
    seconds = "inventory_graphql_operation_duration_seconds_count"
    assert added(before, seconds, operation="skus") == 1
    assert added(before, "inventory_refusals_total", code="VALIDATION_ERROR") == 1


def root_fields() -> set[str]:
    core = schema._schema
    roots = [root for root in (core.query_type, core.mutation_type) if root is not None]
    return {name for root in roots for name in root.fields} | {"__schema", "__type", "__typename"}


async def test_no_label_has_a_text_of_a_client(service: Service) -> None:
    chance = random.Random(7)
    for _ in range(20):
        text = "".join(chance.choices("abcXYZ019_-.~", k=12))
        name = f"n{text.translate(str.maketrans('-.~', '___'))}"
        await service.rest("GET", f"/api/inventory/{text}", token=chance.choice(["read", text]))
        await service.rest(chance.choice(["PUT", "DELETE", name.upper()]), f"/{text}/{text}")
        await service.rest("GET", f"/static/{text}")
        await service.graphql(f"query {name} {{ {name}: skus {{ totalCount }} }}")
        await service.graphql(f"{{ {name} }}")
        fragment = f"fragment {name} on Query {{ __typename }}"
        await service.graphql(f"query {name} {{ ...{name} }} {fragment}")

    values: dict[str, set[str]] = {}
    for _, labels in samples():
        for label, value in labels:
            values.setdefault(label, set()).add(value)
    routes = {each.path_format for each in service.app.routes if isinstance(each, Route | Mount)}
    assert values["route"] <= routes | {UNMATCHED, "/metrics"}
    assert values["operation"] <= root_fields() | {SEVERAL_FIELDS}
    assert values["method"] <= {"GET", "HEAD", "POST", "PUT", "OPTIONS", OTHER_METHOD}
    assert values["code"] <= {code.value for code in ErrorCode} | {"ok"}
    assert all(status.isdigit() for status in values["status"] - {"None"})
    assert values.get("outcome", set()) <= {"delivered", "failed"}
    names = {"route", "operation", "method", "code", "status", "cache", "outcome", "le"}
    assert set(values) <= names


async def test_metrics_are_served_only_if_they_are_on(database_url: str) -> None:
    async with running(database_url) as (_, client):
        assert (await client.get("/metrics")).status_code == 404
    async with running(database_url, metrics=True, metrics_port=9) as (_, client):
        assert (await client.get("/metrics")).status_code == 404
    async with running(database_url, metrics=True) as (_, client):
        page = await client.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        assert "# TYPE inventory_http_requests_total counter" in page.text
        assert "_created" not in page.text
    with pytest.raises(ValueError, match="metrics_port needs metrics"):
        Settings(metrics_port=9)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Count how often the page is rendered; time stands still."""
    renderings: list[object] = []

    def render(registry: object) -> bytes:
        renderings.append(registry)
        return b"page"

    monkeypatch.setattr(metrics, "generate_latest", render)
    monkeypatch.setattr("app.runtime.metrics.time.monotonic", lambda: 5.5)
    metrics._rendered_metrics.cache_clear()
    yield renderings
    metrics._rendered_metrics.cache_clear()


async def test_many_readers_of_the_page_cost_one_rendering_a_second(
    rendered: list[object],
) -> None:
    pages = await asyncio.gather(*(asyncio.to_thread(metrics.metrics_page) for _ in range(20)))
    assert set(pages) == {b"page"}
    assert len(rendered) == 1


async def test_batches_retries_and_the_delay_of_expiries_are_recorded(service: Service) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    before = samples()
    reservation = {
        "lines": [{"sku": "A", "warehouse_id": main.id, "quantity": 1}],
        "expires_in": 60,
    }
    made = await service.rest("POST", "/api/inventory/reservations", json=reservation)
    assert made.status_code == 201, made.text
    assert added(before, "inventory_lane_batch_writes_count") == 1
    expires_at = datetime.fromisoformat(made.json()["data"]["expires_at"])
    await set_clock(service.database, expires_at + timedelta(seconds=20))
    try:
        assert await expire_reservations(service.database, service.tenant_id) == 1
    finally:
        await set_clock(service.database, None)
    delay = "inventory_reservation_expiry_delay_seconds"
    assert added(before, f"{delay}_sum") == 20
    assert added(before, f"{delay}_count") == 1

    attempts = 0

    async def fails_once(_session: DriverSession) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise DatabaseFault(Fault(FaultKind.REPEATABLE, "40001", "try again"))

    await service.database.transaction(fails_once)
    assert added(before, "inventory_database_retries_total") == 1


async def test_gauges_show_connections_in_use_and_waiting(service: Service) -> None:
    waiting: dict[str, Any] = {}

    class Documents:
        bytes = 7

        def __len__(self) -> int:
            return 3

    class Tokens:
        cached_tokens = 2

    async with service.database.reading():
        recording: Any = _record_metrics(service.database, Tokens(), Documents(), range(5))  # type: ignore[arg-type]
        task = asyncio.create_task(recording)
        await asyncio.sleep(0)
        waiting = {name: value for (name, labels), value in samples().items() if not labels}
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert waiting["inventory_database_connections_in_use"] == 1
    assert waiting["inventory_database_connections_awaited"] == 0
    assert waiting["inventory_document_cache_bytes"] == 7
    assert waiting["inventory_open_streams"] == 5
