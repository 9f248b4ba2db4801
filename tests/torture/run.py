"""A torture run: clients write, random kills happen, and the ledger is audited after every kill."""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import orjson
import psutil
from sqlalchemy import select

from app.database.engine import Database
from app.database.parameters import TENANT
from app.database.tables import adjustment
from app.domain.warehouses import WarehouseType
from app.settings import Settings
from tests.databases import PostgreSQL, create_database, migrated, own_postgresql
from tests.ledger.feed import (
    FeedBroken,
    Follower,
    Unanswered,
    assert_followed,
    follower_of,
    read_changes,
)
from tests.processes import answers, free_port, run
from tests.service import Service, new_tenant, sku, warehouse
from tests.torture.audit import Broken, Entry, audit, entry_key
from tests.torture.clients import Client, Log
from tests.torture.operations import Stock

SKUS: Final = 40
WAREHOUSES: Final = 3
# A tenant's ledger is audited whole after each kill, so tenants change.
KILLS_PER_TENANT: Final = 25
# A command takes about a second to start.
KILLS_PER_IMPORT: Final = 5
IMPORT_ATTEMPTS: Final = 10
# Seconds after a kill within which the next write must be acknowledged.
RECOVERY_SECONDS: Final = 10
START_SECONDS: Final = 60
_ADJUSTMENTS: Final = (
    select(adjustment.c.id).where(adjustment.c.tenant_id == TENANT).order_by(adjustment.c.position)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Size of a run; the seed decides all random choices."""

    engine: str
    seed: str
    operations: int
    kills: int
    workers: int = 2
    clients: int = 8


@dataclass
class Report:
    """Figures of a run."""

    plan: Plan
    operations: int = 0
    entries: int = 0
    # Of the feed, each of which a reader has seen exactly once and in order.
    changes: int = 0
    audits: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    slowest_recovery_seconds: float = 0
    seconds: float = 0

    def __str__(self) -> str:
        """Return the report as JSON."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2).decode()


class Server:
    """`inventory serve` with several workers, which may be killed."""

    def __init__(self, database_url: str, *, workers: int, log: Path) -> None:
        self._environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "INVENTORY_LOG_LEVEL": "warning",
        }
        self._port = free_port()
        self._workers = workers
        self.log = log
        self.address = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start, and wait until it responds."""
        words = ["serve", "--workers", str(self._workers), "--port", str(self._port)]
        with self.log.open("ab") as log:
            self._process = psutil.Popen(
                [sys.executable, "-m", "app", *words],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not answers(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                message = f"the server does not start: {self.log.read_text()[-2000:]}"
                raise Broken(message)
            time.sleep(0.05)

    def kill_worker(self, dice: random.Random) -> None:
        """Kill one worker; the others continue, and the server replaces it."""
        dice.choice([process for process in self._process.children() if _is_worker(process)]).kill()

    def kill(self) -> None:
        """Kill all of its processes at once."""
        self._process.suspend()
        family = [*self._process.children(recursive=True), self._process]
        for process in family:
            process.kill()
        psutil.wait_procs(family)


class Torture:
    """A run: its servers, its clients, and the random generator."""

    def __init__(self, plan: Plan, directory: Path, postgresql: PostgreSQL | None) -> None:
        self.report = Report(plan)
        self._plan = plan
        self._dice = random.Random(plan.seed)
        self._postgresql = postgresql
        self._directory = directory
        self._url = _new_database(directory, postgresql)
        self._server = Server(self._url, workers=plan.workers, log=directory / "server.log")
        self._file = (directory / "acknowledged.jsonl").open("a", buffering=1, encoding="utf-8")

    async def run(self, progress: Callable[[Report], None]) -> None:
        """Execute the run.

        Raises:
            Broken, LedgerBroken: the first broken promise.

        """
        started = time.monotonic()
        for first in range(0, self._plan.kills, KILLS_PER_TENANT):
            last = min(first + KILLS_PER_TENANT, self._plan.kills)
            stock = await _new_stock(self._url)
            tenant = stock.tenant_id
            log = Log(self._file, counts=self.report.counts)
            before, entries = self.report.operations, self.report.entries
            async with self._http() as http, self._followed(http, tenant):
                clients = [
                    Client(f"{first}.{number}", self._plan.seed, http, log)
                    for number in range(self._plan.clients)
                ]
                for kill in range(first, last):
                    goal = self._plan.operations * (kill + 1) // self._plan.kills - before
                    await self._stretch(clients, stock, log, goal)
                    self.report.operations = before + log.operations
                    self.report.entries = entries + await audit(self._url, tenant, log.entries)
                    self.report.audits += 1
                    self.report.seconds = round(time.monotonic() - started, 1)
                    progress(self.report)
        # The operator's command verifies every tenant.
        done = await asyncio.to_thread(run, "verify", database_url=self._url)
        if done.returncode:
            message = f"`inventory verify` says: {done.stderr}"
            raise Broken(message)

    @asynccontextmanager
    async def _followed(self, http: httpx.AsyncClient, tenant: str) -> AsyncIterator[None]:
        """Follow the feed of a tenant during the block; compare it with the lists at the end.

        Raises:
            FeedBroken: a change is missing, doubled or out of order.

        """
        service = Service(None, http, None, tenant)  # type: ignore[arg-type]
        follower = await follower_of(service)
        following = asyncio.create_task(_follow(service, follower))
        try:
            yield
        finally:
            following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await assert_followed(service, follower)
        self.report.changes += follower.position
        database = Database(Settings(database_url=self._url))
        async with database.snapshot() as snapshot:
            rows = await snapshot.rows(_ADJUSTMENTS, {"tenant_id": tenant})
        await database.dispose()
        if follower.adjustments != [row.id for row in rows]:
            message = "the feed does not have the adjustments of the ledger in their order"
            raise FeedBroken(message)

    def close(self) -> None:
        """Stop all servers."""
        self._server.kill()
        self._file.close()

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._server.address,
            timeout=RECOVERY_SECONDS * 2,
            limits=httpx.Limits(max_connections=self._plan.clients * 3),
        )

    async def _stretch(self, clients: Sequence[Client], stock: Stock, log: Log, goal: int) -> None:
        """Write until `goal` operations are acknowledged; at a random one of them, kill."""
        fatal = self._dice.randint(log.operations + 1, max(goal - 1, log.operations + 1))

        async def write(client: Client) -> None:
            while log.operations < goal:
                await client.write(stock)

        async def kill() -> None:
            while log.operations < fatal:
                await asyncio.sleep(0.001)
            await asyncio.sleep(self._dice.uniform(0, 0.02))
            await asyncio.to_thread(self._kill)
            mended, known = time.monotonic(), log.operations
            while log.operations in (known, known + 1) and log.operations < goal:
                await asyncio.sleep(0.01)
            waited = round(time.monotonic() - mended, 2)
            slowest = max(waited, self.report.slowest_recovery_seconds)
            self.report.slowest_recovery_seconds = slowest
            if waited > RECOVERY_SECONDS:
                message = f"no service for {waited} s after a kill"
                raise Broken(message)

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(write(client))
            group.create_task(kill())
            if self.report.audits % KILLS_PER_IMPORT == 0:
                group.create_task(asyncio.to_thread(self._import, stock, log))

    def _import(self, stock: Stock, log: Log) -> None:
        """Import counts of SKUs that only imports write; start again until the command succeeds."""
        number = self.report.audits
        warehouse_id = stock.warehouses[-1]
        entries = {
            f"import {number}.{row}": Entry(code, warehouse_id, number + row)
            for row, code in enumerate(stock.imported)
        }
        rows = (
            f"{entry.sku},{warehouse_id},{entry.after},{note}\n" for note, entry in entries.items()
        )
        file = self._directory / f"counts-{number}.csv"
        file.write_text("sku,warehouse_id,quantity,note\n" + "".join(rows))
        words = ("import", str(file), "--tenant", stock.tenant_id)
        attempts = 0
        while (done := run(*words, database_url=self._url)).returncode:
            attempts += 1
            if attempts == IMPORT_ATTEMPTS:
                message = f"an import fails: {done.stderr}"
                raise Broken(message)
        self.report.counts["imported rows"] += len(entries)
        self.report.counts["imports started again"] += attempts
        log.entries |= {entry_key(note, entry): entry for note, entry in entries.items()}

    def _kill(self) -> None:
        """Kill a process, and start it again."""
        kinds = ["worker"] * 3 + ["server"]
        if self._postgresql:
            kinds += ["postgresql"] * 3
        kind = self._dice.choice(kinds)
        self.report.kills[kind] += 1
        if kind == "worker":
            self._server.kill_worker(self._dice)
        elif kind == "server":
            self._server.kill()
            self._server.start()
        elif self._postgresql:
            self._postgresql.kill()
            self._postgresql.start()


async def _follow(service: Service, follower: Follower) -> None:
    """Follow the feed until cancelled, and try again when the service does not answer."""
    while True:
        with suppress(httpx.TransportError, Unanswered):
            await follower.follow(lambda after: read_changes(service, after))
        await asyncio.sleep(0.02)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in process.cmdline()[-2]
    except psutil.Error:
        # It was killed, and its parent has not noticed yet.
        return False


async def torture(plan: Plan, *, progress: Callable[[Report], None]) -> Report:
    """Execute a run. Returns its report.

    Raises:
        Broken, LedgerBroken: the first broken promise.

    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inventory-")))
        postgresql = None
        if plan.engine == "postgresql":
            postgresql = stack.enter_context(own_postgresql())
        started = await asyncio.to_thread(Torture, plan, directory, postgresql)
        stack.callback(started.close)
        await started.run(progress)
        return started.report


def _new_database(directory: Path, postgresql: PostgreSQL | None) -> str:
    if postgresql is None:
        return migrated(f"sqlite+aiosqlite:///{directory}/inventory.db")
    return migrated(create_database(postgresql.url, "torture"))


async def _new_stock(database_url: str) -> Stock:
    """Create a tenant with SKUs without stock."""
    database = Database(Settings(database_url=database_url))
    service = Service(None, None, database, await new_tenant(database))  # type: ignore[arg-type]
    warehouses = [warehouse(f"W{number}") for number in range(WAREHOUSES)]
    readonly = warehouse("Marketplace", WarehouseType.FBA, marketplace="amazon_eu")
    codes = [f"SKU-{number:03}" for number in range(SKUS)]
    imported = [f"IMPORTED-{number:03}" for number in range(SKUS)]
    await service.load([*warehouses, readonly], [sku(code) for code in (*codes, *imported)])
    await database.dispose()
    ids = [record.id for record in warehouses]
    tokens = {scope: service.token(scope) for scope in ("write", "admin")}
    return Stock(service.tenant_id, tokens, codes, imported, ids, readonly.id)
