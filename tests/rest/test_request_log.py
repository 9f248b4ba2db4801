"""The log entry of a request says who asked what, and why it failed."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import httpx
import pytest
import uvicorn
from structlog.testing import capture_logs

from app.cli.listening import server_options
from app.runtime.observation import log_slow_statements, statement_name
from app.settings import Settings
from tests.service import Service, Transport, new_tenant, running

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
Entry = dict[str, Any]


@pytest.fixture
async def logged(database_url: str) -> AsyncIterator[Service]:
    """Run the service with an empty tenant, and write all log entries."""
    async with running(database_url, log_level="info") as (app, client):
        database = app.state.database
        yield Service(app, client, database, await new_tenant(database))


async def entry_of(request: Any) -> Entry:
    """Return the log entry of one request."""
    with capture_logs() as entries:
        await request
    [entry] = [dict(entry) for entry in entries if entry["event"] == "request"]
    return entry


async def test_an_entry_names_the_caller_the_operation_and_the_size(logged: Service) -> None:
    body = {"query": "query Mine { skus { totalCount } }", "operationName": "Mine"}
    with capture_logs() as entries:
        response = await logged.rest("POST", "/graphql", json=body)
    [entry] = entries

    assert (entry["operation"], entry["tenant"]) == ("Mine", logged.tenant_id)
    assert entry["token"].startswith("tok_")
    assert entry["bytes"] == len(response.content)
    assert (entry["status"], entry["code"], entry["log_level"]) == (200, None, "info")
    rest = await entry_of(logged.rest("GET", "/api/inventory"))
    assert rest["operation"] == "ListInventory"
    stranger = await entry_of(logged.rest("GET", "/api/inventory", token=None))
    assert {"tenant", "token", "operation"}.isdisjoint(stranger)
    assert stranger["code"] == "UNAUTHENTICATED"


async def test_an_entry_has_each_code_of_graphql_errors_once(logged: Service) -> None:
    fields = " ".join(f'a{n}: adjustments(after: "x") {{ totalCount }}' for n in range(3))
    deep = f'{{ {fields} warehouse(id: "wh_1") {{ id }} sku(sku: "A") {{ id }} }}'
    entry = await entry_of(logged.graphql(deep))
    codes = entry["code"].split(",")
    assert sorted(codes) == ["INVALID_CURSOR", "INVENTORY_NOT_FOUND", "WAREHOUSE_NOT_FOUND"]
    entry = await entry_of(logged.graphql("{ nothing }"))
    assert (entry["code"], entry["status"]) == ("VALIDATION_ERROR", 200)


@pytest.mark.parametrize("is_graphql", [False, True])
async def test_a_failure_of_the_service_is_a_warning_with_its_cause(
    *, is_graphql: bool, logged: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_arguments: object, **_options: object) -> object:
        message = "disk I/O error"
        raise OSError(message)

    assert (await logged.rest("GET", "/api/inventory")).status_code == 200
    monkeypatch.setattr(type(logged.database), "rows", refuse)
    monkeypatch.setattr(type(logged.database), "session", refuse)
    query = "{ skus { totalCount } }"
    request = logged.graphql(query) if is_graphql else logged.rest("GET", "/api/inventory")
    entry = await entry_of(request)

    assert (entry["code"], entry["log_level"]) == ("UNAVAILABLE", "warning")
    assert "disk I/O error" in entry["cause"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7-01-x", None),
        ('"}{"trace_id":"x', None),
    ],
)
async def test_the_trace_of_a_client_is_in_every_entry(
    header: str, expected: str | None, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(database_url, log_level="info") as (_, client):
        capfd.readouterr()
        await client.get("/x", headers={"traceparent": header})
        [line] = capfd.readouterr().err.splitlines()
    assert json.loads(line).get("trace_id") == expected


@pytest.mark.parametrize(
    ("trusted", "client"),
    [(None, "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("127.0.0.0/8, ::1", "192.0.2.7")],
)
async def test_only_a_trusted_proxy_names_the_client(
    trusted: str | None, client: str, logged: Service
) -> None:
    config = uvicorn.Config(logged.app, **server_options(Settings(trusted_proxies=trusted)))
    config.load()
    transport = Transport(config.loaded_app, client=("127.0.0.1", 9))
    forwarded = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7"}
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as caller:
        entry = await entry_of(caller.get("/x", headers=forwarded))
    # Left of the last address that is not trusted, a client can write anything.
    assert entry["client"] == client


@pytest.fixture
def every_statement_is_slow() -> Iterator[None]:
    """Log every statement as a slow one."""
    log_slow_statements(0)
    yield
    log_slow_statements(None)


@pytest.mark.usefixtures("every_statement_is_slow")
async def test_a_slow_statement_is_logged_by_name_without_its_values(logged: Service) -> None:
    log_slow_statements(0)
    with capture_logs() as entries:
        await logged.rest("GET", "/api/inventory?q=secret")
    slow = [entry for entry in entries if entry["event"] == "slow_statement"]
    assert slow
    assert "secret" not in str(slow)
    assert any(entry["statement"].startswith("SELECT") for entry in slow)
    assert all(len(entry["text"]) <= 2_000 for entry in slow)
    assert {"sku", "stock_level"} & {word for each in slow for word in each["statement"].split()}
    log_slow_statements(None)
    with capture_logs() as entries:
        await logged.rest("GET", "/api/inventory")
    assert [entry["event"] for entry in entries] == ["request"]


def test_a_statement_is_named_by_its_verb_and_tables() -> None:
    assert statement_name("INSERT INTO adjustment (a) VALUES (?)") == "INSERT adjustment"
    assert statement_name("SELECT 1\nFROM sku JOIN stock_level ON 1 JOIN sku") == (
        "SELECT sku stock_level"
    )
    assert statement_name("") == ""
