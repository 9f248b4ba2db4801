"""Switch-overs under load: python -m tests.faults.failover --rounds 10.

The primary is stopped, or frozen as by a fault of its machine, and its standby takes over.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from app.database.engine import Database
from app.ledger.verification import verify_tenant
from tests.databases import migrated
from tests.faults.test_faults import (
    MAIN,
    SOON_SECONDS,
    UNAVAILABLE,
    Load,
    load,
    until_nothing_is_checked_out,
)
from tests.replication import Pair, replicating
from tests.rest.answers import answered
from tests.service import Service, level, new_tenant, running, sku

ALLOWED: Final = {UNAVAILABLE, (409, "IDEMPOTENCY_IN_FLIGHT")}
# Answers without a refusal between them that count as full service.
FULL_SERVICE: Final = 50
READERS: Final = 3


@dataclass
class Switches:
    """What switch-overs cost: seconds until full service, and the refusals by code."""

    seconds: list[float] = field(default_factory=list)
    acknowledged: int = 0
    refused: Counter[tuple[int, str]] = field(default_factory=Counter)
    # The statuses of reads.
    reads: Counter[int] = field(default_factory=Counter)


async def switch_over(pair: Pair, rounds: int, **settings: Any) -> Switches:
    """Run clients during switch-overs, and check every answer against the ledger at the end.

    Every second primary freezes; the others are stopped in order.
    """
    result = Switches()
    async with running(pair.address, database_pool_timeout_seconds=2, **settings) as (app, client):
        database: Database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A", level(MAIN, 5))])
        async with load(service) as clients, reading(service, result):
            for number in range(rounds):
                await clients.until(FULL_SERVICE)
                fail = pair.primary.freeze if number % 2 else pair.primary.stop
                await asyncio.to_thread(fail)
                await asyncio.to_thread(pair.standby.promote)
                result.seconds.append(await full_service(clients))
                await asyncio.to_thread(pair.replace_primary)
            await clients.until(FULL_SERVICE)
        await until_nothing_is_checked_out(database)
        assert set(clients.refused) <= ALLOWED, clients.refused
        assert set(result.reads) <= {200, 503}
        await check_acknowledged(service, clients)
        result.acknowledged, result.refused = len(clients.acknowledged), clients.refused
    return result


@asynccontextmanager
async def reading(service: Service, result: Switches) -> AsyncIterator[None]:
    """Read all the time, and count the statuses."""

    async def read() -> None:
        while True:
            response = await service.rest("GET", "/api/inventory/A")
            result.reads[response.status_code] += 1
            await asyncio.sleep(0.01)

    readers = [asyncio.create_task(read()) for _ in range(READERS)]
    yield
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


async def full_service(clients: Load) -> float:
    """Wait for full service, and return the seconds until its first answer."""
    began = time.monotonic()
    async with asyncio.timeout(SOON_SECONDS * 3):
        while True:
            started, refusals = time.monotonic(), clients.refused.total()
            await clients.until(FULL_SERVICE)
            if clients.refused.total() == refusals:
                return round(started - began, 2)


async def check_acknowledged(service: Service, clients: Load) -> None:
    """Check that each acknowledged write is in the ledger once."""
    history = answered(await service.rest("GET", "/api/inventory/A/adjustments"))["data"]
    written = Counter(entry["after_quantity"] for entry in history)
    for key in clients.acknowledged:
        client, number = map(int, key.split("-"))
        assert written[client * 1_000_000 + number] == 1, key
    await verify_tenant(service.database, service.tenant_id)


def main() -> None:
    """Run the switch-overs and print their cost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    with replicating() as pair:
        migrated(pair.address)
        result = asyncio.run(switch_over(pair, parser.parse_args().rounds))
    print(f"seconds until full service: {result.seconds}")
    print(f"{result.acknowledged} writes acknowledged, each in the ledger once")
    print(f"refusals of writes: {dict(result.refused)}; reads: {dict(result.reads)}")


if __name__ == "__main__":
    main()
