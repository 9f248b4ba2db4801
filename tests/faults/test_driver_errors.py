"""Every error of a driver, at each of its calls: 503, and the next request succeeds."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
from sqlalchemy import text

from app.database.faults import fault_of, unavailable
from app.errors import Unavailable
from tests.faults.injection import ERRORS, Injection, injected
from tests.faults.test_faults import checked_out, until_nothing_is_checked_out, url_of
from tests.rest.answers import answered
from tests.service import Service, level, running, sku, warehouse

MAIN: Final = warehouse()
# One error of each kind; the whole table is tested without a database.
AT_EACH_CALL: Final = {
    "postgresql": ("57P01", "25006", "55P03", "40001", "internal"),
    "sqlite": ("SQLITE_BUSY", "SQLITE_IOERR", "SQLITE_FULL", "closed"),
}
MOST_CALLS: Final = 40
TWO_STATEMENTS: Final = "{ skus { totalCount nodes { sku } } warehouses { id name } }"
Ask = Callable[[Service, str], Awaitable[tuple[int, dict[str, Any]]]]


async def read(service: Service, _key: str) -> tuple[int, dict[str, Any]]:
    response = await service.rest("GET", "/api/inventory/A")
    assert (response.status_code in {409, 503}) == ("Retry-After" in response.headers)
    return response.status_code, response.json()


async def read_in_transaction(service: Service, _key: str) -> tuple[int, dict[str, Any]]:
    answer = await service.graphql(TWO_STATEMENTS)
    statuses = {error["extensions"]["status"] for error in answer.get("errors", [])}
    assert statuses <= {503, 500}, answer
    return max(statuses, default=200), answer


async def write(service: Service, key: str) -> tuple[int, dict[str, Any]]:
    """Set A by a single statement, where the engine can."""
    response = await service.rest(
        "PUT",
        "/api/inventory/A",
        json={"warehouse_id": MAIN.id, "quantity": 7, "reason": "loss", "note": key},
        headers={"Idempotency-Key": key},
    )
    assert (response.status_code in {409, 503}) == ("Retry-After" in response.headers)
    return response.status_code, response.json()


async def write_in_transaction(service: Service, key: str) -> tuple[int, dict[str, Any]]:
    codes = [f"B{number}" for number in range(11)]
    updates = [
        {"sku": code, "warehouse_id": MAIN.id, "quantity": 7, "reason": "loss", "note": key}
        for code in ("A", *codes)
    ]
    response = await service.rest(
        "POST",
        "/api/inventory/bulk",
        json={"updates": updates},
        headers={"Idempotency-Key": key},
    )
    assert (response.status_code in {409, 503}) == ("Retry-After" in response.headers)
    return response.status_code, response.json()


REQUESTS: Final[dict[str, Ask]] = {
    "read": read,
    "read in a transaction": read_in_transaction,
    "write": write,
    "write in a transaction": write_in_transaction,
}


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service with 12 SKUs in the main warehouse."""
    codes = ["A", *(f"B{number}" for number in range(11))]
    await service.load([MAIN], [sku(code, level(MAIN, 5)) for code in codes])
    return service


@asynccontextmanager
async def cached(stocked: Service) -> AsyncIterator[Service]:
    """Service that caches tokens."""
    settings = {"token_cache_seconds": 30, "log_level": "error"}
    async with running(url_of(stocked.database), **settings) as (app, client):
        yield replace(stocked, app=app, client=client, database=app.state.database)


async def assert_written_once(service: Service, keys: list[str]) -> None:
    history = answered(await service.rest("GET", "/api/inventory/A/adjustments"))["data"]
    written = Counter(entry.get("note") for entry in history)
    assert {key: written[key] for key in keys} == dict.fromkeys(keys, 1)


@pytest.mark.parametrize(
    ("kind", "is_answer_lost"),
    [*((kind, False) for kind in REQUESTS), ("write", True), ("write in a transaction", True)],
)
async def test_an_error_at_any_call_is_503_and_the_next_request_succeeds(
    stocked: Service, kind: str, *, is_answer_lost: bool
) -> None:
    dialect = stocked.database.dialect
    statuses: Counter[int] = Counter()
    calls: set[str] = set()
    keys: list[str] = []
    async with cached(stocked) as service:
        database = service.database
        assert (await REQUESTS[kind](service, "first"))[0] == 200
        names = AT_EACH_CALL[dialect][:1] if is_answer_lost else AT_EACH_CALL[dialect]
        for name in names:
            for after in range(MOST_CALLS):
                key = f"{name}-{after}"
                database.drop_connections()
                injection = Injection(ERRORS[dialect][name], after, is_answer_lost)
                with injected(dialect, injection):
                    status, answer = await REQUESTS[kind](service, key)
                # A key whose lock is taken is in use by another request.
                allowed = {200, 503, 409} if name == "55P03" else {200, 503}
                assert status in allowed, (name, injection.called, after, answer)
                statuses[status] += 1
                # The response may come before a cancelled task has returned its connection.
                await until_nothing_is_checked_out(database)
                status, answer = await REQUESTS[kind](service, key)
                assert status == 200, (name, injection.called, after, answer)
                assert checked_out(database) == 0
                calls.add(injection.called)
                keys.append(key)
                if not injection.called:
                    break
            else:
                pytest.fail("The error was injected at so many calls, and there are more.")
        if kind.startswith("write"):
            await assert_written_once(service, keys)
    assert len(calls) > 2
    assert statuses[503] or is_answer_lost


@pytest.mark.parametrize(
    ("dialect", "name"), [(dialect, name) for dialect in ERRORS for name in ERRORS[dialect]]
)
def test_the_error_table_maps_the_error(dialect: str, name: str) -> None:
    fault = fault_of(ERRORS[dialect][name]())

    assert fault is not None
    refusal = unavailable(fault, address="postgresql db.example:5432/inventory")
    assert isinstance(refusal, Unavailable)
    assert refusal.cause.startswith(f"postgresql db.example:5432/inventory: {fault.state}")


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), KeyError("x")])
def test_an_error_of_the_service_is_not_mapped_to_a_fault(error: Exception) -> None:
    assert fault_of(error) is None


async def test_a_failed_read_is_not_executed_again_in_its_transaction(
    stocked: Service,
) -> None:
    async with stocked.database.snapshot() as snapshot:
        await snapshot.rows(text("SELECT 1"), {})
        with pytest.raises(Exception, match="no_such_table"):
            await snapshot.rows(text("SELECT * FROM no_such_table"), {})
        with pytest.raises(Exception, match="no_such_table"):
            await snapshot.rows(text("SELECT 1"), {})
        await snapshot.close()
        assert [tuple(row) for row in await snapshot.rows(text("SELECT 2"), {})] == [(2,)]
    assert checked_out(stocked.database) == 0
