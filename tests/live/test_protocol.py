"""Refusals, limits and headers of streams."""

import asyncio
import contextlib
import re
from typing import Any, Final
from unittest.mock import patch

import httpx
import pytest
from prometheus_client import REGISTRY

from app.auth.tokens import Authenticator
from app.errors import Unauthenticated
from app.runtime.metrics import record_requests
from tests.house.documents import text_of
from tests.house.generated import DOCS
from tests.live.serving import ALL, EVENTS_ONLY, REST_PATH, LiveService, serving
from tests.service import Service

# A client that sends one header for all operations.
ALL_TYPES: Final = {
    "Accept": "application/graphql-response+json, application/json, text/event-stream"
}
REFUSED: Final[dict[str, tuple[str, dict[str, str], str]]] = {
    "a type that does not exist": ("subscription { stolen }", {}, "VALIDATION_ERROR"),
    "two root fields": (
        "subscription { changes { type } stockChanged { type } }",
        {},
        "VALIDATION_ERROR",
    ),
    "introspection": ("subscription { __typename }", {}, "VALIDATION_ERROR"),
    "no GraphQL": ("subscription {", {}, "MALFORMED_REQUEST"),
    "a negative position": ("subscription { changes(after: -1) { type } }", {}, "VALIDATION_ERROR"),
    "an empty list": ("subscription { stockChanged(skus: []) { type } }", {}, "VALIDATION_ERROR"),
    "a position beyond the newest": (
        "subscription { changes(after: 1000000000000000000000) { type } }",
        {},
        "CHANGES_GONE",
    ),
    "too many SKUs": (
        "subscription { stockChanged(skus: [%s]) { type } }" % ('"A",' * 201),
        {},
        "VALIDATION_ERROR",
    ),
    "many fields": (
        "subscription {{ changes {{ {} }} }}".format(" ".join(f"a{n}: type" for n in range(200))),
        {},
        "QUERY_TOO_COMPLEX",
    ),
    "an unknown warehouse": (
        'subscription { stockChanged(warehouseIds: ["wh_x"]) { type } }',
        {},
        "WAREHOUSE_NOT_FOUND",
    ),
    "an event id of another service": (ALL, {"Last-Event-ID": "abc"}, "VALIDATION_ERROR"),
    "an event id in other digits": (ALL, {"Last-Event-ID": "²"}, "VALIDATION_ERROR"),
}


# One engine: none of this depends on the database.
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")


async def test_a_refused_subscription_is_an_event_and_the_end(live: LiveService) -> None:
    codes = {}
    for name, (query, headers, _) in REFUSED.items():
        encoded: Any = {key: value.encode() for key, value in headers.items()}
        async with live.opened(query, headers=encoded) as reader:
            assert reader.response.status_code == 200
            assert reader.response.headers["content-type"].startswith("text/event-stream")
            codes[name] = await reader.error()
    assert codes == {name: code for name, (_, _, code) in REFUSED.items()}
    assert len(live.streams) == 0


async def test_a_refused_stream_of_rest_is_an_error_response(live: LiveService) -> None:
    for query, status in (
        ("after=1000000000", 410),
        ("after=x", 422),
        ("limit=5", 422),
        ("types=stolen", 422),
        ("warehouse_id=wh_x", 404),
    ):
        response = await live.rest("GET", f"{REST_PATH}?{query}", headers=EVENTS_ONLY)
        assert (query, response.status_code) == (query, status)
        assert response.headers["content-type"] == "application/json"
    assert len(live.streams) == 0


async def test_the_documented_subscription_is_valid(live: LiveService) -> None:
    [document] = re.findall(r"```text\n(subscription .*?)```", text_of(DOCS / "live.md"), re.DOTALL)
    async with live.opened(document) as reader:
        assert reader.response.status_code == 200
        await live.until_open(1)


async def test_a_missing_credential_is_refused_before_the_stream(live: LiveService) -> None:
    for token in (None, "inv_x-y"):
        by_rest = await live.rest("GET", REST_PATH, headers=EVENTS_ONLY, token=token)
        headers = {**EVENTS_ONLY, **live._authorization(token)}
        by_graphql = await live.client.post("/graphql", json={"query": ALL}, headers=headers)
        assert [by_rest.status_code, by_graphql.status_code] == [401, 401]


async def test_a_subscription_needs_a_client_of_events(service: Service) -> None:
    answer = await service.graphql(ALL)
    [error] = answer["errors"]
    assert error["extensions"]["code"] == "VALIDATION_ERROR"
    assert "text/event-stream" in error["message"]
    accepted = {**service._authorization("read"), **EVENTS_ONLY}
    for method, path in (("HEAD", REST_PATH), ("HEAD", f"/graphql?query={ALL}")):
        response = await service.client.request(method, path, headers=accepted)
        assert "event-stream" not in response.headers["content-type"]


async def test_queries_and_mutations_have_one_event(live: LiveService) -> None:
    for query in ("{ __typename }", "mutation { __typename }"):
        async with live.opened(query) as reader:
            result = await anext(reader)
            assert result.json["data"]["__typename"] in ("Query", "Mutation")
            assert [event.name async for event in reader] == ["complete"]


async def test_a_client_of_all_types_gets_json_and_streams_only_subscriptions(
    live: LiveService,
) -> None:
    async with live.opened("{ __typename }", headers=ALL_TYPES) as reader:
        assert "json" in reader.response.headers["content-type"]
    async with live.opened(ALL, headers=ALL_TYPES) as reader:
        assert "event-stream" in reader.response.headers["content-type"]
    both = await live.rest("GET", REST_PATH, headers=ALL_TYPES)
    assert both.json()["data"] == []


async def test_a_browser_can_open_a_subscription_by_get(live: LiveService) -> None:
    headers = {**live._authorization("read"), **EVENTS_ONLY}
    parameters = {"query": "subscription { changes { position } }"}
    async with live.client.stream(
        "GET", "/graphql", params=parameters, headers=headers
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["cache-control"] == "no-store"
    await live.until_open(0)


async def test_streams_of_a_token_are_limited_and_a_closed_one_counts_no_more(
    database_url: str,
) -> None:
    async with serving(database_url, max_streams_per_token=2, max_streams=3) as live:
        async with live.opened(ALL), live.opened():
            for path, body in ((REST_PATH, None), ("/graphql", {"query": ALL})):
                headers = {**live._authorization("read"), **EVENTS_ONLY}
                method = "POST" if body else "GET"
                response = await live.client.request(method, path, json=body, headers=headers)
                assert (response.status_code, "TOO_MANY_STREAMS" in response.text) == (429, True)
            async with live.opened(token="write"):
                response = await live.rest("GET", REST_PATH, headers=EVENTS_ONLY, token="admin")
                assert response.status_code == 503
                assert response.headers["retry-after"]
        await live.until_open(0)
        async with live.opened(ALL), live.opened():
            await live.until_open(2)


async def test_refused_and_abandoned_streams_leave_nothing_behind(live: LiveService) -> None:
    before = asyncio.all_tasks()
    headers = {**live._authorization("read"), **EVENTS_ONLY}
    for number in range(20):
        request = live.client.build_request(
            "GET", REST_PATH, headers=headers, params={"after": 0 if number % 2 else 9}
        )
        task = asyncio.create_task(live.client.send(request, stream=True))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
            await (await task).aclose()
    await live.until_open(0)
    while live.streams._followers and any(
        each.position is not None for each in live.streams._followers.values()
    ):
        await asyncio.sleep(0.01)
    while {task for task in asyncio.all_tasks() - before if "follower" in repr(task)}:
        await asyncio.sleep(0.01)
    assert live.streams._by_token == {}


async def test_a_long_stream_outlives_the_limit_of_requests(database_url: str) -> None:
    async with (
        serving(database_url, request_timeout_seconds=0.3, stream_heartbeat_seconds=0.1) as live,
        live.opened(ALL) as reader,
    ):
        for _ in range(8):
            await reader.comment()


async def test_a_stream_is_counted_without_its_time_and_logged_with_its_error(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def counted(name: str, **labels: str) -> float:
        record_requests()
        given = {"method": "GET", "route": REST_PATH, **labels}
        return REGISTRY.get_sample_value(name, given) or 0

    async with serving(
        database_url, metrics=True, log_level="info", stream_heartbeat_seconds=0.05
    ) as live:
        requests = counted("inventory_http_requests_total", status="200")
        times = counted("inventory_http_request_duration_seconds_count")
        async with live.opened() as reader:
            await anext(reader)
            with patch.object(Authenticator, "identify", side_effect=Unauthenticated("Revoked.")):
                while (event := await anext(reader)).name is None:
                    assert event.data is None
            assert [rest async for rest in reader] == []
        await live.until_open(0)
        assert counted("inventory_http_requests_total", status="200") == requests + 1
        assert counted("inventory_http_request_duration_seconds_count") == times
    lines = [line for line in capsys.readouterr().err.splitlines() if REST_PATH in line]
    assert '"code": "UNAUTHENTICATED"' in lines[-1]
