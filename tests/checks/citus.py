"""Checks of the service on Citus: python -m tests.checks.citus --database-url URL.

Every check runs through every node. Then a shard is moved, and its node is killed, under load.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
from asyncpg import PostgresError
from sqlalchemy import make_url, text
from starlette.applications import Starlette
from ulid import ULID

from app.database.engine import Database
from app.database.migration import grant, migrate
from app.database.placement import Placement
from app.domain.webhooks import WebhookStatus
from app.ledger import rollup
from app.ledger.verification import verify_tenant
from app.maintenance import (
    end_due_reservations,
    purge_changes,
    purge_idempotency_keys,
    roll_up_ledgers,
)
from app.settings import Settings
from tests.checks.driver import Findings, check_database
from tests.engines import reader_of, transact
from tests.faults.failover import check_acknowledged, full_service
from tests.faults.test_faults import MAIN, UNAVAILABLE, Load, load
from tests.graphql.test_access_matrix import CODE
from tests.processes import run
from tests.security.test_isolation import everything_read, stock
from tests.service import Service, level, new_tenant, running, sku
from tests.webhooks.receiver import deliver_all, receiving, response
from tests.webhooks.stock import hook, state_of

ALLOWED: Final = {UNAVAILABLE, (409, "IDEMPOTENCY_IN_FLIGHT")}
# Writes that are acknowledged before and after a disturbance.
WRITES: Final = 200
REFUSALS: Final = 20
NODES: Final = text(
    "SELECT nodename, nodeport FROM pg_dist_node WHERE noderole = 'primary' ORDER BY groupid"
)
PLACEMENT: Final = text(
    "SELECT shardid, nodename, nodeport FROM pg_dist_shard_placement"
    " WHERE shardid = get_shard_id_for_distribution_column('tenant', CAST(:tenant AS text))"
)
OTHER_NODE: Final = text(
    "SELECT nodename, nodeport FROM pg_dist_node"
    " WHERE shouldhaveshards AND nodeport <> :port ORDER BY nodeport LIMIT 1"
)
MOVE: Final = "SELECT citus_move_shard_placement({}, '{}', {}, '{}', {}, 'force_logical')"


async def check_nodes(url: str, findings: Findings, requests: int) -> list[str]:
    """Run every check through every node. Return the addresses of the nodes."""
    database = Database(Settings(database_url=url))
    await migrate(database, Placement(is_distributed=True))
    async with reader_of(database).connect() as connection:
        nodes = [tuple(row) for row in await connection.execute(NODES)]
    await database.dispose()
    urls = [
        make_url(url).set(host=host, port=port).render_as_string(hide_password=False)
        for host, port in nodes
    ]
    for each in urls:
        began = time.monotonic()
        found = await check_database(each, requests=requests)
        findings.passed += found.passed
        findings.failed |= {
            f"{make_url(each).port}: {name}": it for name, it in found.failed.items()
        }
        seconds = time.monotonic() - began
        print(
            f"{make_url(each).port}: {found.passed} passed, {len(found.failed)} failed, "
            f"{dict(found.statuses)}, {seconds:.0f} s"
        )
    return urls


@asynccontextmanager
async def serving(owner: Database, node_url: str) -> AsyncIterator[tuple[Starlette, Any]]:
    """Run the service on a node as a new role that sees one tenant at a time."""
    role = f"serving_{ULID()}".lower()
    await _execute(owner, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    await grant(owner, role)
    url = make_url(node_url).set(username=role, password="secret")
    address = url.render_as_string(hide_password=False)
    async with running(address, row_level_security=True, webhooks_to_loopback=True) as served:
        yield served


async def check_row_level_security(owner_url: str, node_url: str) -> None:
    """Check that the serving role reads the same as the owner, and nothing of another tenant."""
    async with (
        running(owner_url) as (owning, owning_client),
        serving(owning.state.database, node_url) as (app, client),
    ):
        database: Database = owning.state.database
        owner, other = [
            Service(owning, owning_client, database, await new_tenant(database)) for _ in "ab"
        ]
        for each in (owner, other):
            await stock(each, each.tenant_id, [CODE, "B"], 500)
        restricted = Service(app, client, app.state.database, owner.tenant_id)
        assert await everything_read(restricted) == await everything_read(owner)
        seen = text("SELECT DISTINCT tenant_id FROM sku")
        for tenant_id, expected in ((owner.tenant_id, [owner.tenant_id]), (None, [])):
            async with app.state.database.snapshot(tenant_id=tenant_id) as snapshot:
                assert [row.tenant_id for row in await snapshot.rows(seen, {})] == expected
        with pytest.raises(PostgresError, match="permission denied"):
            await app.state.database.transaction(
                lambda session: session.execute(text("UPDATE adjustment SET note = 'x'"))
            )
        await verify_tenant(database, owner.tenant_id)


async def check_jobs(owner_url: str, node_url: str) -> None:
    """Check that the background jobs of the serving role find and do the due work of a tenant."""
    async with (
        running(owner_url) as (owning, owning_client),
        serving(owning.state.database, node_url) as (app, client),
        receiving() as receiver,
        receiving(lambda _: response(410)) as gone,
    ):
        owner: Database = owning.state.database
        database: Database = app.state.database
        loading = Service(owning, owning_client, owner, await new_tenant(owner))
        await loading.load([MAIN], [sku("A", level(MAIN, 5))])
        shop = Service(app, client, database, loading.tenant_id)
        body = {"warehouse_id": MAIN.id, "quantity": 9, "reason": "cycle_count"}
        await shop.rest("PUT", "/api/inventory/A", json=body, headers={"Idempotency-Key": "k"})
        for name in ("idempotency_key", "change"):
            age = f"UPDATE {name} SET created_at = now() - interval '90 days'"
            await _execute(owner, f"{age} WHERE tenant_id = '{shop.tenant_id}'")
        with patch.object(rollup, "MIN_ENTRIES", 1):
            for job in (purge_idempotency_keys, purge_changes, roll_up_ledgers):
                await job(database)
        counts = [
            await _count(owner, name, shop.tenant_id)
            for name in ("idempotency_key", "change", "ledger_sum")
        ]
        assert counts[:2] == [0, 0], counts
        assert counts[2] > 0, counts

        await hook(shop, receiver.url)
        refused = await hook(shop, gone.url)
        lines = [{"sku": "A", "warehouse_id": MAIN.id, "quantity": 1}]
        reservation = {"lines": lines, "expires_in": 1}
        await shop.rest("POST", "/api/inventory/reservations", json=reservation)
        await asyncio.sleep(1.1)
        await end_due_reservations(database)
        data = await shop.data("{ reservations { nodes { status } } }")
        assert data["reservations"]["nodes"] == [{"status": "EXPIRED"}], data
        await deliver_all(database)
        assert (await state_of(shop, refused.record.id)).status == WebhookStatus.DISABLED
        feed = await shop.rest("GET", "/api/inventory/changes")
        positions = [change["position"] for change in feed.json()["data"]]
        assert receiver.positions == positions != [], (receiver.positions, positions)


async def check_commands(owner_url: str, node_url: str) -> None:
    """Check that a tenant is exported, deleted, imported and repaired."""
    async with running(owner_url) as (app, client):
        database: Database = app.state.database
        shop = Service(app, client, database, await new_tenant(database))
        await stock(shop, "Shop", [CODE, "B"], 500)
        tenant = shop.tenant_id
        head = await verify_tenant(database, tenant)
        with tempfile.TemporaryDirectory() as directory:
            files = str(Path(directory) / "files")
            _command(node_url, "export", "--all", files, "--tenant", tenant)
            _command(node_url, "tenant", "delete", tenant, "--yes")
            _command(node_url, "import", files)
        assert await verify_tenant(database, tenant) == head
        change = "UPDATE stock_level SET reserved = reserved + 7 WHERE tenant_id = '{}'"
        await _execute(database, change.format(tenant))
        _command(node_url, "verify", "--tenant", tenant, "--repair")
        assert await verify_tenant(database, tenant) == head


async def disturb(
    url: str, name: str, disturbance: Callable[[Database, str, Load], Awaitable[None]]
) -> None:
    """Run clients during a disturbance, and check every answer against the ledger."""
    async with running(url, database_pool_timeout_seconds=2) as (app, client):
        database: Database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        async with load(service) as clients:
            await clients.until(WRITES)
            began = time.monotonic()
            await disturbance(database, service.tenant_id, clients)
            disturbed = time.monotonic() - began
            seconds = await full_service(clients)
            await clients.until(WRITES)
        assert set(clients.refused) <= ALLOWED, clients.refused
        await check_acknowledged(service, clients)
    print(
        f"{name}: {disturbed:.1f} s, full service {seconds} s after it, "
        f"{len(clients.acknowledged)} writes acknowledged, each in the ledger once, "
        f"refused {dict(clients.refused)}"
    )


async def move_shard(database: Database, tenant_id: str, _clients: Load) -> None:
    """Move the shard of a tenant to another node by logical replication."""
    async with reader_of(database).connect() as connection:
        [placement] = await connection.execute(PLACEMENT, {"tenant": tenant_id})
        [target] = await connection.execute(OTHER_NODE, {"port": placement.nodeport})
    await _execute(database, MOVE.format(*placement, *target))


async def kill_node(
    kill: str, start: str, database: Database, tenant_id: str, clients: Load
) -> None:
    """Kill the node of a tenant, wait for refusals, and start it again."""
    async with reader_of(database).connect() as connection:
        [placement] = await connection.execute(PLACEMENT, {"tenant": tenant_id})
    other = await _tenant_elsewhere(database, placement.nodeport)
    before = clients.refused.total()
    for command in (kill, start):
        words = command.format(port=placement.nodeport)
        await asyncio.to_thread(subprocess.run, words, shell=True, check=True)  # noqa: S604 - of the caller
        async with asyncio.timeout(60):
            while clients.refused.total() < before + REFUSALS:
                await asyncio.sleep(0.01)
        answer = await replace(clients.service, tenant_id=other).rest("GET", "/api/inventory")
        assert answer.status_code == 200, answer.text


async def _tenant_elsewhere(database: Database, port: int) -> str:
    """Create tenants until one is on a worker with another port."""
    while True:
        tenant_id = await new_tenant(database)
        async with reader_of(database).connect() as connection:
            [placement] = await connection.execute(PLACEMENT, {"tenant": tenant_id})
        if placement.nodeport != port:
            return tenant_id


async def _execute(database: Database, statement: str) -> None:
    async def work(connection: Any) -> None:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.execute(text(statement))

    await transact(database, work)


async def _count(database: Database, table: str, tenant_id: str) -> int:
    """Count the rows of a tenant in a table."""
    counted = text(f"SELECT count(*) FROM {table} WHERE tenant_id = '{tenant_id}'")
    async with reader_of(database).connect() as connection:
        return int(await connection.scalar(counted) or 0)


def _command(url: str, *words: str) -> None:
    done = run(*words, database_url=url)
    assert done.returncode == 0, done.stderr


async def check_citus(options: argparse.Namespace) -> Findings:
    """Run all checks."""
    findings = Findings()
    urls = await check_nodes(options.database_url, findings, options.requests)
    coordinator, *_, last = urls
    checks: Sequence[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("row-level security", partial(check_row_level_security, coordinator, last)),
        *(
            (f"{make_url(each).port}: background jobs", partial(check_jobs, coordinator, each))
            for each in urls
        ),
        ("commands", partial(check_commands, coordinator, last)),
        ("moved shard", partial(disturb, coordinator, "moved shard", move_shard)),
    ]
    if options.kill:
        kill = partial(kill_node, options.kill, options.start)
        checks = [*checks, ("killed node", partial(disturb, coordinator, "killed node", kill))]
    for name, check in checks:
        await findings.run(name, check)
    return findings


def main() -> None:
    """Run the checks, print what failed, and exit non-zero if anything did."""
    parser = argparse.ArgumentParser(prog="python -m tests.checks.citus", description=__doc__)
    parser.add_argument("--database-url", required=True, help="The database of the coordinator.")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--kill", help="Shell command that kills the node at {port}.")
    parser.add_argument("--start", help="Shell command that starts the node at {port}.")
    findings = asyncio.run(check_citus(parser.parse_args()))
    for name, error in findings.failed.items():
        print(f"failed: {name}: {error[:500]}")
    print(f"{findings.passed} checks passed, {len(findings.failed)} failed")
    sys.exit(bool(findings.failed))


if __name__ == "__main__":
    main()
