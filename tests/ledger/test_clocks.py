"""Workers whose clocks differ: the database clock decides."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
from sqlalchemy import select

from app.auth import tokens as auth
from app.auth.tokens import Authenticator
from app.database import clocks
from app.database.clocks import Clock
from app.database.engine import Database
from app.database.tables import adjustment
from app.domain.caller import Caller, Scope
from app.domain.hash_chain import parse_head
from app.domain.records import ReservationStatus
from app.domain.reservations import RequestedLine
from app.domain.stock import OnError, StockUpdate
from app.domain.warehouses import WarehouseType
from app.errors import Unauthenticated, ValidationFailed
from app.ledger.verification import verify_tenant
from app.reads.reservations import get_reservations
from app.reads.tenants import list_tokens
from app.settings import Settings
from app.writes.expiry import expire_reservations
from app.writes.marketplace_sync import ReportedLevel, StockReport, sync_stock
from app.writes.pipeline import WriteContext
from app.writes.reservations import (
    ReserveRequest,
    extend_reservation,
    reserve_stock,
)
from app.writes.stock import change_stock
from app.writes.tenants import create_token, store_token_uses
from tests.ledger.writes import assert_proven
from tests.service import EMAIL, Service, level, now, sku, warehouse

MAIN: Final = warehouse()
MARKET: Final = warehouse("Market", WarehouseType.FBA)
MINUTES: Final = timedelta(minutes=1)
DAYS: Final = timedelta(days=1)


@asynccontextmanager
async def worker(service: Service, ahead: timedelta) -> AsyncIterator[Database]:
    """Open the database as a process whose clock differs from the first by `ahead`."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + ahead

    url = service.database.url.render_as_string(hide_password=False)
    # The first process of a SQLite file joins it with its first write.
    await service.load()
    database = Database(Settings(database_url=url))
    database.clock.wall = lambda: datetime.now(UTC).timestamp() + ahead.total_seconds()
    try:
        with patch.object(auth, "datetime", Ahead):
            yield database
    finally:
        await database.dispose()


def writing(service: Service, database: Database, key: str | None = None) -> WriteContext:
    return WriteContext(
        database=database, caller=Caller(service.tenant_id, "tok_1", EMAIL), key=key
    )


async def adjust(service: Service, database: Database, key: str | None = None) -> Any:
    change = StockUpdate(sku="A", warehouse_id=MAIN.id, delta=-1, reason="loss")
    return await change_stock(database, Caller(service.tenant_id, "tok_1", EMAIL), change, key=key)


async def reserve(service: Service, database: Database) -> str:
    wanted = ReserveRequest(lines=(RequestedLine("A", (MAIN.id,), 2),), seconds=300)
    done = await reserve_stock(writing(service, database), wanted)
    return done.result.reservation.id


async def status(service: Service, id_: str) -> ReservationStatus:
    async with service.database.snapshot() as snapshot:
        return (await get_reservations(snapshot, service.tenant_id, ids=[id_]))[id_].status


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service whose SKU A has 10 in the main warehouse, and B no stock."""
    await service.load([MAIN, MARKET], [sku("A", level(MAIN, 10)), sku("B")])
    return service


async def test_a_fast_worker_expires_no_reservation_early(stocked: Service) -> None:
    held = await reserve(stocked, stocked.database)
    async with worker(stocked, 10 * MINUTES) as ahead:
        assert await expire_reservations(ahead, stocked.tenant_id) == 0
        await reserve(stocked, ahead)
    assert await status(stocked, held) is ReservationStatus.OPEN


async def test_a_reservation_of_a_slow_worker_lasts_its_full_time(stocked: Service) -> None:
    async with worker(stocked, -10 * MINUTES) as behind:
        held = await reserve(stocked, behind)
        await extend_reservation(writing(stocked, behind), held, 301)
    assert await expire_reservations(stocked.database, stocked.tenant_id) == 0
    async with stocked.database.snapshot() as snapshot:
        kept = (await get_reservations(snapshot, stocked.tenant_id, ids=[held]))[held]
    assert kept.expires_at is not None
    assert 4 * MINUTES < kept.expires_at - now() < 6 * MINUTES


@pytest.mark.parametrize("hours", [25, -25])
async def test_a_key_is_replayed_by_workers_with_other_clocks(stocked: Service, hours: int) -> None:
    first = await adjust(stocked, stocked.database, "k")
    async with worker(stocked, timedelta(hours=hours)) as other:
        again = await adjust(stocked, other, "k")
        await adjust(stocked, other, "l")
    assert (await adjust(stocked, stocked.database, "l")).replayed
    assert (first.replayed, again.replayed) == (False, True)
    assert again.result == first.result


@pytest.mark.parametrize("days", [400, -400])
async def test_a_write_is_dated_by_the_database_clock(stocked: Service, days: int) -> None:
    async with worker(stocked, days * DAYS) as other:
        far = (await adjust(stocked, other)).result.adjustment
    near = (await adjust(stocked, stocked.database)).result.adjustment
    assert abs(far.created_at - now()) < MINUTES
    assert far.created_at <= near.created_at < now() + MINUTES
    await assert_proven(stocked)


async def test_time_follows_position_although_clocks_differ(stocked: Service) -> None:
    async with worker(stocked, 10 * MINUTES) as ahead, worker(stocked, -10 * MINUTES) as behind:
        for _ in range(3):
            for database in (ahead, behind, stocked.database):
                await adjust(stocked, database)
    in_order = select(adjustment.c.position, adjustment.c.created_at).order_by(
        adjustment.c.position
    )
    of_tenant = adjustment.c.tenant_id == stocked.tenant_id
    async with stocked.database.snapshot() as snapshot:
        positions, times = zip(*await snapshot.rows(in_order.where(of_tenant), {}), strict=True)

    assert positions == (*range(1, 11),)
    assert list(times) == sorted(times)
    assert abs(times[-1] - now()) < MINUTES
    await assert_proven(stocked)


@pytest.mark.parametrize("days", [400, -400])
async def test_a_future_report_is_refused_by_the_database_clock(
    stocked: Service, days: int
) -> None:
    async def report(at: datetime, database: Database) -> Any:
        levels = (ReportedLevel("B", 5),)
        seen = StockReport(
            warehouse_id=MARKET.id, reported_at=at, levels=levels, on_error=OnError.ABORT
        )
        return await sync_stock(writing(stocked, database, "k"), seen, is_admin=True)

    async with worker(stocked, days * DAYS) as other:
        with pytest.raises(ValidationFailed, match="future"):
            await report(now() + 10 * MINUTES, other)
        await report(now(), other)


async def test_a_head_of_a_fast_worker_stays_valid_after_a_slow_worker_writes(
    stocked: Service,
) -> None:
    async with worker(stocked, 30 * MINUTES) as ahead:
        head = parse_head((await verify_tenant(ahead, stocked.tenant_id)).head)
    async with worker(stocked, -10 * MINUTES) as behind:
        change = StockUpdate(sku="B", warehouse_id=MAIN.id, quantity=1, reason="count")
        await change_stock(behind, Caller(stocked.tenant_id, "tok_1", EMAIL), change)
    await verify_tenant(stocked.database, stocked.tenant_id, head=head)


@pytest.mark.parametrize("days", [400, -400])
async def test_a_token_expires_by_the_database_clock(stocked: Service, days: int) -> None:
    async with worker(stocked, days * DAYS) as other:
        good = await create_token(
            other,
            stocked.tenant_id,
            name="t",
            email=EMAIL,
            scopes=[Scope.READ],
            expires_in=10 * MINUTES,
        )
        over = await create_token(
            other,
            stocked.tenant_id,
            name="t",
            email=EMAIL,
            scopes=[Scope.READ],
            expires_in=timedelta(microseconds=1),
        )
        authenticator = Authenticator(other, cache_seconds=60)
        for _ in "ab":
            await authenticator.authenticate(f"Bearer {good.token}")
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(f"Bearer {over.token}")
        await store_token_uses(other, authenticator.take_last_uses())
    async with stocked.database.snapshot() as snapshot:
        [token] = [
            it for it in await list_tokens(snapshot, stocked.tenant_id) if it["id"] == good.id
        ]
    used = datetime.fromisoformat(str(token["last_used_at"]))
    assert abs(used - now()) < MINUTES


def test_no_write_reads_the_process_clock() -> None:
    app = Path(clocks.__file__).parents[1]
    files = [app / "ledger" / name for name in ("verification.py", "repair.py", "rollup.py")]
    files += [file for room in ("reads", "writes", "files") for file in (app / room).glob("*.py")]
    readers = {
        file.name
        for file in files
        if re.search(r"datetime\.(now|utcnow)|time\.time|func\.now", file.read_text())
    }

    assert readers == {"seeding.py"}


def clock(file: Path, *, ahead: float = 0) -> Clock:
    """Clock of a process that finds a file in use, unless it is the first."""
    made = Clock(str(file))
    made.wall = lambda: 1_000_000_000.0 + ahead
    Path(f"{file}-shm").touch()
    return made


def joined(process: Clock, note: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Note of a file after a process has joined it."""
    process.adopt_boot(*note)
    return process.boot_to_store() or note


def test_the_first_process_on_a_sqlite_file_sets_its_clock(tmp_path: Path) -> None:
    first, second, near = (clock(tmp_path / "a", ahead=it) for it in (0, 86_400, 30))
    note = joined(first)
    with patch.object(clocks, "log") as log:
        assert joined(second, note) == joined(near, note) == note
        assert abs(second.now() - first.now()) <= timedelta(seconds=1)
        second.now()
    assert near.now() - first.now() == timedelta(seconds=30)
    [warning] = log.warning.call_args_list
    assert warning.args == ("clock_ignored",)
    assert 86_399 <= warning.kwargs["seconds_ahead"] <= 86_401


def test_a_lone_process_and_the_first_after_a_restart_set_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = joined(clock(tmp_path / "a", ahead=86_400))
    Path(tmp_path / "a-shm").unlink()
    alone = clock(tmp_path / "a")
    note = joined(alone, wrong)
    assert note != wrong
    assert alone.now() == datetime.fromtimestamp(1_000_000_000, UTC)
    boot = tmp_path / "boot"
    boot.write_text("another start")
    monkeypatch.setattr(clocks, "BOOT_ID", boot)
    restarted = clock(tmp_path / "a", ahead=86_400)
    assert joined(restarted, note)[0] != note[0]
    assert restarted.now() == datetime.fromtimestamp(1_000_086_400, UTC)
    monkeypatch.setattr(clocks, "BOOT_ID", tmp_path / "none")
    assert joined(clock(tmp_path / "a"), note) == note
