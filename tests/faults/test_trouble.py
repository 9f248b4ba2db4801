"""A server that freezes or accepts no writes: 503 in time, and full service afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from unittest.mock import patch

import psutil
import pytest
from sqlalchemy import text

from app.cli.main import main
from app.database.session import DriverSession
from app.runtime.deadlines import Limit, OutOfTime, Watch
from tests.databases import PostgreSQL, migrated, own_postgresql
from tests.engines import writer_of
from tests.faults.test_faults import (
    MAIN,
    UNAVAILABLE,
    assert_serves_soon,
    put,
    until_nothing_is_checked_out,
)
from tests.rest.answers import answered, refusal
from tests.service import Service, level, new_tenant, running, sku

BUDGET_SECONDS: Final = 2
# Longer than the budget on any machine.
PATIENCE_SECONDS: Final = 30
TWO_STATEMENTS: Final = "{ skus { totalCount nodes { sku } } warehouses { id name } }"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """PostgreSQL server of this module."""
    with own_postgresql("fsync = off") as server:
        migrated(server.url.render_as_string(hide_password=False))
        yield server


@asynccontextmanager
async def stocked(server: PostgreSQL, **settings: Any) -> AsyncIterator[Service]:
    """Service whose SKU A has 5 in the main warehouse."""
    url = server.url.render_as_string(hide_password=False)
    async with running(url, token_cache_seconds=30, **settings) as (app, client):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        for scope in ("read", "write"):
            answered(await service.rest("GET", "/api/inventory", token=scope))
        yield service


@contextmanager
def frozen(server: PostgreSQL) -> Iterator[None]:
    """Suspend every process of a server; its connections stay open."""
    family = [server.process, *server.process.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            try:
                process.resume()
            except psutil.NoSuchProcess:
                continue


async def test_every_request_to_a_frozen_server_is_answered_and_service_resumes(
    server: PostgreSQL,
) -> None:
    settings = {"request_timeout_seconds": BUDGET_SECONDS, "database_pool_size": 3}
    async with stocked(server, **settings) as service:
        with frozen(server):
            async with asyncio.timeout(PATIENCE_SECONDS):
                answers = await asyncio.gather(
                    service.rest("GET", "/api/inventory/A"),
                    service.rest("GET", "/api/inventory/A/adjustments"),
                    put(service, 6, "frozen"),
                    service.rest("GET", "/readyz", token=None),
                    *(service.rest("GET", "/api/inventory") for _ in range(8)),
                )
                nested = await service.graphql(TWO_STATEMENTS)
            assert [refusal(answer) for answer in answers] == [UNAVAILABLE] * len(answers)
            assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
            assert {it["extensions"]["code"] for it in nested["errors"]} == {"UNAVAILABLE"}
            await until_nothing_is_checked_out(service.database)
        await assert_serves_soon(service)
        assert (await put(service, 6, "frozen")).status_code == 200
        await until_nothing_is_checked_out(service.database)
        assert (await service.client.get("/readyz")).status_code == 200


async def test_an_unanswered_commit_is_uncertain_and_its_key_resolves_it(
    server: PostgreSQL,
) -> None:
    async with stocked(server, request_timeout_seconds=BUDGET_SECONDS) as service:
        commit = DriverSession.commit

        async def unanswered(session: DriverSession) -> None:
            await commit(session)
            await asyncio.Event().wait()

        body = {"lines": [{"sku": "A", "warehouse_id": MAIN.id, "quantity": 1}]}
        path, key = "/api/inventory/reservations", {"Idempotency-Key": "lost"}
        with patch.object(DriverSession, "commit", unanswered):
            response = await service.rest("POST", path, json=body, headers=key)
        assert refusal(response) == UNAVAILABLE
        assert "may or may not be done" in response.json()["error"]["message"]
        assert "idempotency key" in response.json()["error"]["message"]

        again = await service.rest("POST", path, json=body, headers=key)
        assert again.headers["Idempotent-Replayed"] == "true"
        record = answered(await service.rest("GET", "/api/inventory/A"))["data"]
        assert record["total_reserved"] == 1
        await until_nothing_is_checked_out(service.database)


async def test_readiness_fails_on_a_read_only_server_until_failover(
    server: PostgreSQL,
) -> None:
    async with stocked(server) as service:
        administer = "ALTER DATABASE postgres SET default_transaction_read_only = {}"
        # As after a switch-over: open connections lead to a read-only server.
        await execute(server, administer.format("on"))
        service.database.drop_connections()
        try:
            assert (await service.client.get("/readyz")).status_code == 503
            for _ in range(3):
                response = await put(service, 6)
                assert refusal(response) == UNAVAILABLE
                assert response.headers["Retry-After"] == "1"
                answered(await service.rest("GET", "/api/inventory/A"))
        finally:
            await execute(server, administer.format("off"))
        await assert_serves_soon(service)
        assert (await service.client.get("/readyz")).status_code == 200


async def execute(server: PostgreSQL, statement: str) -> None:
    """Execute a statement as an operator, also if new sessions are read-only."""
    await asyncio.to_thread(
        server._server.psql, f"SET default_transaction_read_only = off; {statement};"
    )


async def test_a_timed_out_read_is_not_retried(server: PostgreSQL) -> None:
    async with stocked(server, database_lock_timeout_ms=50) as service:
        async with writer_of(service.database).connect() as other:
            await other.execute(text("LOCK TABLE warehouse IN ACCESS EXCLUSIVE MODE"))
            answer = await service.graphql(TWO_STATEMENTS)
        assert {it["extensions"]["code"] for it in answer["errors"]} == {"UNAVAILABLE"}
        await until_nothing_is_checked_out(service.database)
        await service.data(TWO_STATEMENTS)


def test_the_command_line_names_the_host_and_the_state(
    server: PostgreSQL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.url.set(database="missing", password="secret")
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    monkeypatch.setattr("sys.argv", ["inventory", "verify"])
    with pytest.raises(SystemExit):
        main()

    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("inventory: The database does not exist.")
    assert "3D000" in line
    assert "/missing" in line
    assert "secret" not in line


async def test_a_limit_cancels_work_once_and_leaves_the_task_usable() -> None:
    watch = Watch()
    with pytest.raises(OutOfTime), Limit(watch, 0, ends_at=time.monotonic()):
        await asyncio.Event().wait()
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_an_outside_cancellation_is_not_reported_as_the_limit() -> None:
    async def work() -> None:
        with Limit(Watch(), 60, ends_at=time.monotonic() + 60):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
