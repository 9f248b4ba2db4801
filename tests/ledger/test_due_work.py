"""Background jobs ask for due work, not for tenants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app import maintenance as upkeep
from app.database.due_work import DUE_ROLLUPS, TENANT_SEARCHES
from app.database.engine import Database
from app.database.tables import idempotency_key, reservation, tenant
from app.ledger import rollup as summing
from app.reads.due_work import MAX_DUE_TENANTS, list_due_tenants
from tests.clocks import clocks_at, fake_clock
from tests.engines import reader_of, transact, writer_of
from tests.graphql.recorder import recorded
from tests.ledger.reservations import MAIN, line, reserve, stocked
from tests.ledger.writes import assert_proven
from tests.rest.answers import answered
from tests.service import Service, new_tenant, now, running

TENANTS: Final = 10_000
Job = Callable[[Database], Awaitable[None]]
# Every job with the seconds until its work is due.
JOBS: Final[dict[str, tuple[Job, int]]] = {
    "reservations": (upkeep.end_due_reservations, 60),
    "keys": (upkeep.purge_idempotency_keys, 24 * 3600),
    "changes": (upkeep.purge_changes, 30 * 24 * 3600),
    "rollups": (upkeep.roll_up_ledgers, 0),
}


@pytest.fixture
async def alone(own_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """Run the service on a database of its own, with rollups of few adjustments."""
    monkeypatch.setattr(summing, "MIN_ENTRIES", 3)
    async with running(own_database_url) as (app, client):
        database = app.state.database
        await fake_clock(database)
        yield Service(app, client, database, await new_tenant(database))


async def adjust(worker: Service, quantity: int) -> None:
    """Set the stock of a SKU, under an idempotency key."""
    body = {"warehouse_id": MAIN.id, "quantity": 10 + quantity, "reason": "cycle_count"}
    key = {"Idempotency-Key": f"k{quantity}"}
    answered(await worker.rest("PUT", "/api/inventory/A", json=body, headers=key))


async def with_work(service: Service) -> Service:
    """Return a new tenant with work of every job."""
    worker = replace(service, tenant_id=await new_tenant(service.database))
    await stocked(worker)
    await adjust(worker, 0)
    await reserve(worker, line("A", 1), expiresIn=60)
    return worker


async def add_idle_tenants(number: int, connection: AsyncConnection) -> None:
    """Insert tenants without work."""
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :number)"
        " INSERT INTO tenant (tenant_id, name, cursor_key, created_at)"
        " SELECT 'idle-' || i, 'Idle', cursor_key, created_at"
        " FROM n, (SELECT * FROM tenant LIMIT 1) AS one"
    )
    await connection.execute(text(numbers), {"number": number})


async def run_at(service: Service, job: Job, instant: datetime) -> list[str]:
    """Run a job at an instant, and return its statements."""
    with recorded() as recorder:
        async with clocks_at(service.database, instant):
            await job(service.database)
    return recorder.statements


@pytest.mark.parametrize("name", JOBS)
async def test_a_job_works_once_for_the_tenants_with_due_work(alone: Service, name: str) -> None:
    job, seconds = JOBS[name]
    workers = [await with_work(alone) for _ in range(3)]
    start = now()
    early = [await run_at(alone, job, start)] if seconds else []
    due = await run_at(alone, job, start + timedelta(seconds=seconds + 60))
    done = await run_at(alone, job, start + timedelta(seconds=seconds + 60))

    assert len(due) > len(workers)
    assert [len(statements) for statements in [*early, done]] == [1] * (len(early) + 1)
    for worker in workers:
        await assert_proven(worker)


async def test_ten_thousand_idle_tenants_cost_one_statement_per_job(alone: Service) -> None:
    await transact(alone.database, partial(add_idle_tenants, TENANTS))
    for job, _ in JOBS.values():
        with recorded() as recorder:
            await job(alone.database)
        assert len(recorder) == 1, recorder.statements


async def test_a_job_pauses_at_least_its_period(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 100:
            raise asyncio.CancelledError

    async def job() -> None:
        """Do nothing."""

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", note)
        with pytest.raises(asyncio.CancelledError):
            await upkeep._repeat(upkeep.EXPIRY_SECONDS, job)
    assert 1 <= min(pauses) < max(pauses) <= 1.5


async def test_work_of_more_tenants_than_a_search_returns_is_done(alone: Service) -> None:
    await transact(alone.database, partial(add_idle_tenants, 2 * MAX_DUE_TENANTS + 1))
    keys = (
        "INSERT INTO idempotency_key (tenant_id, subject, key, fingerprint, outcome, created_at)"
        " SELECT tenant_id, 's', 'k', '', '', created_at FROM tenant"
    )
    await transact(alone.database, partial(run_statement, keys))
    statements = await run_at(alone, upkeep.purge_idempotency_keys, now() + timedelta(days=2))

    searches = [each for each in statements if not each.startswith("DELETE")]
    assert (len(statements) - len(searches), len(searches)) == (2 * MAX_DUE_TENANTS + 2, 3)
    async with reader_of(alone.database).connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(idempotency_key)) == 0


async def test_a_tenant_under_deletion_has_no_due_work(alone: Service) -> None:
    worker = await with_work(alone)
    mark = "UPDATE tenant SET deleted_since = created_at WHERE tenant_id = :tenant"
    await transact(alone.database, partial(run_statement, mark, tenant=worker.tenant_id))
    for job, seconds in JOBS.values():
        assert len(await run_at(alone, job, now() + timedelta(seconds=seconds + 60))) == 1


async def test_a_rollup_is_due_exactly_if_one_would_be_stored(alone: Service) -> None:
    worker = await with_work(alone)
    found = []
    for quantity in range(40):
        async with alone.database.snapshot() as snapshot:
            thresholds = {"min_entries": summing.MIN_ENTRIES, "per_row": summing.ENTRIES_PER_ROW}
            due = await list_due_tenants(snapshot, DUE_ROLLUPS, **thresholds)
        found.append(await summing.roll_up_ledger(alone.database, worker.tenant_id))
        assert due == [worker.tenant_id] * found[-1]
        await adjust(worker, quantity)
    assert 1 < sum(found) < 20


async def test_two_workers_share_the_work(alone: Service) -> None:
    workers = [await with_work(alone) for _ in range(12)]
    url = alone.database.url.render_as_string(hide_password=False)
    async with running(url) as (app, _):
        other: Database = app.state.database
        async with clocks_at(other, now() + timedelta(seconds=90)):
            await asyncio.gather(
                run_at(alone, upkeep.end_due_reservations, now() + timedelta(seconds=90)),
                upkeep.end_due_reservations(other),
            )
    for worker in workers:
        data = await worker.data("{ reservations { nodes { status version } } }")
        assert data["reservations"]["nodes"] == [{"status": "EXPIRED", "version": 2}]
        await assert_proven(worker)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_tenants_whose_lock_is_taken_hold_up_no_others(alone: Service) -> None:
    blocked = [await with_work(alone) for _ in range(upkeep.TENANTS_AT_ONCE - 1)]
    free = [await with_work(alone) for _ in range(6)]
    ids = [worker.tenant_id for worker in blocked]
    lock = select(tenant).where(tenant.c.tenant_id.in_(ids)).with_for_update()
    is_open = reservation.c.status == "open"
    open_ids = select(reservation.c.tenant_id).where(is_open).order_by(reservation.c.tenant_id)
    url = alone.database.url.render_as_string(hide_password=False)
    async with (
        # Longer than the test may take.
        running(url, database_lock_timeout_ms=600_000) as (app, _),
        clocks_at(alone.database, now() + timedelta(seconds=90)),
        writer_of(alone.database).connect() as other,
    ):
        await other.execute(lock)
        job = asyncio.create_task(upkeep.end_due_reservations(app.state.database))
        async with asyncio.timeout(60):
            while [*await other.scalars(open_ids)] != sorted(ids):
                await asyncio.sleep(0.01)
        assert not job.done()
        await other.rollback()
        await job
    for worker in free:
        await assert_proven(worker)


async def test_a_search_reads_indexes_alone(alone: Service) -> None:
    values = {
        "due_before": "'2026-01-01T00:00:00Z'",
        "min_entries": "1",
        "per_row": "1",
        "most": "1",
    }
    is_sqlite = alone.database.dialect == "sqlite"
    async with reader_of(alone.database).connect() as connection:
        if not is_sqlite:
            # The tables are small. A scan that is left has no index to replace it.
            await connection.execute(text("SET enable_seqscan = off"))
        for search in TENANT_SEARCHES:
            words = search.statement(values)
            explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
            plan = [str(row[-1]) for row in await connection.execute(text(f"{explain} {words}"))]
            scans = [step for step in plan if "Seq Scan" in step or step.startswith("SCAN")]
            assert [step for step in scans if "tenant" not in step] == [], plan


async def run_statement(statement: str, connection: AsyncConnection, **values: object) -> None:
    await connection.execute(text(statement), values)
