"""Runs of an import: an interrupted one continues, and a feed with the same rows is another one."""

import json
import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Final

import pytest
from sqlalchemy import select

from app.database.tables import adjustment
from app.domain.stock import LevelKey, OnError
from app.files import imported_levels
from app.files import imports as importing
from app.files.columns import FileKind
from app.files.import_runs import ImportTally
from app.files.imported_levels import ImportedLevels
from app.files.imports import CONTINUED_SECONDS
from app.files.staging import Staging
from tests.clocks import clocks_at
from tests.files.importing import imported, silent, staged, warehouse_names
from tests.ledger.writes import ADJUST
from tests.service import Service, level, now, sku, warehouse
from tests.statements import BrokenOff, broken_off, watched

DIGESTS: Final = (
    "import json, sys; from tests.files.importing import staged; "
    "from app.files.columns import FileKind; "
    "print([staged(text, FileKind(kind)).digest for kind, text in json.loads(sys.argv[1]).items()])"
)
CONTENTS: Final = {
    FileKind.SKUS: "sku,title\nA,Thing\n",
    FileKind.WAREHOUSES: "name,type\nMain,own\n",
    FileKind.COUNTS: "sku,warehouse_id,quantity\nA,wh_01J00000000000000000000000,5\n",
    FileKind.LEVELS: "sku,warehouse_id,on_hand\nA,wh_01J00000000000000000000000,5\n",
}
MAIN: Final = warehouse("Main")
SHOP: Final = warehouse("Shop")
FEED: Final = f"sku,warehouse_id,quantity\nA,{MAIN.id},10\nNEW,{MAIN.id},3\n"
DAY: Final = timedelta(days=1)
SKIPPED: Final = ImportTally(already_imported=1)


async def fed(
    service: Service, content: str = FEED, kind: FileKind = FileKind.COUNTS, name: str = ""
) -> tuple[ImportTally, bool]:
    """Import a file as the command does; its tally, and whether it says that rows are repeated."""
    names = await warehouse_names(service.database, service.tenant_id)
    staging = staged(content, kind, names=names)
    first = importing.run_of(staging, service.tenant_id, name=name, created_by="importer")
    try:
        chosen = await importing.validate_next_run(
            service.database, staging, first, silent, on_error=OnError.CONTINUE
        )
        result = await importing.write(
            service.database, staging, chosen.run, silent, on_error=OnError.CONTINUE
        )
        assert result.tally == chosen.result.tally
        return result.tally, chosen.is_repetition
    finally:
        staging.close()


async def count(service: Service, code: str, delta: int) -> None:
    change = {"sku": code, "warehouseId": MAIN.id, "delta": delta, "reason": "correction"}
    await service.data(ADJUST, {"input": change})


async def on_hand(service: Service, code: str = "A") -> int:
    data = await service.data(f'{{ sku(sku: "{code}") {{ totalOnHand }} }}')
    return int(data["sku"]["totalOnHand"])


async def create_new(service: Service) -> None:
    await imported(service.database, service.tenant_id, "sku,title\nNEW,x\n", FileKind.SKUS)


def test_the_rows_of_a_file_have_the_same_digest_in_every_process() -> None:
    digests = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(  # noqa: S603 - the words are constants
            [sys.executable, "-c", DIGESTS, json.dumps(CONTENTS)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)

    assert len(digests) == 1


async def test_the_feed_of_the_next_day_is_written_although_a_row_was_refused(
    service: Service,
) -> None:
    await service.load([MAIN], [sku("A")])
    assert await fed(service) == (ImportTally(created=1), False)
    await count(service, "A", -6)
    await create_new(service)

    async with clocks_at(service.database, now() + DAY):
        assert await fed(service) == (ImportTally(created=1, updated=1), True)
        assert await on_hand(service) == 10


async def test_the_feed_of_the_next_day_is_written_although_the_last_one_was_interrupted(
    interrupted: Service,
) -> None:
    async with clocks_at(interrupted.database, now() + DAY):
        assert await fed(interrupted) == (ImportTally(created=1, updated=1), True)
    assert (await on_hand(interrupted), await on_hand(interrupted, "NEW")) == (10, 3)


@pytest.fixture
async def interrupted(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Import the first batch of the feed, and sell a part of what it counted."""
    monkeypatch.setattr(importing, "IMPORT_BATCH_ROWS", 1)
    await service.load([MAIN], [sku("A"), sku("NEW")])
    for statements in range(3, 30):
        with pytest.raises(BrokenOff), broken_off(after=statements):
            await fed(service)
        if await on_hand(service):
            break
    assert (await on_hand(service), await on_hand(service, "NEW")) == (10, 0)
    await count(service, "A", -6)
    return service


async def test_an_interrupted_import_continues_within_the_hour(interrupted: Service) -> None:
    async with clocks_at(interrupted.database, now() + timedelta(seconds=CONTINUED_SECONDS - 60)):
        assert await fed(interrupted) == (replace(SKIPPED, created=1), False)
        assert await on_hand(interrupted) == 4
        # Nothing is left of that run.
        assert await fed(interrupted) == (ImportTally(updated=2), True)
        assert await on_hand(interrupted) == 10


async def test_a_named_import_continues_at_any_time(service: Service) -> None:
    await service.load([MAIN], [sku("A")])
    assert await fed(service, name="May") == (ImportTally(created=1), False)
    await create_new(service)

    async with clocks_at(service.database, now() + DAY):
        assert await fed(service, name="May") == (replace(SKIPPED, created=1), False)


async def test_levels_are_imported_once_whatever_happens_to_the_stock(service: Service) -> None:
    await service.load([MAIN], [sku("A")])
    content = f"sku,warehouse_id,on_hand\nA,{MAIN.id},5\n"
    assert await fed(service, content, FileKind.LEVELS) == (ImportTally(created=1), False)
    await count(service, "A", -1)

    assert await fed(service, content, FileKind.LEVELS) == (SKIPPED, False)
    assert await on_hand(service) == 4


async def test_the_last_of_many_runs_is_found_by_few_entries(service: Service) -> None:
    await service.load([MAIN], [sku("A", level(MAIN, 1))])
    runs = 9
    for _ in range(runs):
        await fed(service)
    probes = []

    def note(statement: str, _parameters: object) -> None:
        if "bulk_id = " in statement and "position DESC" in statement:
            probes.append(statement)

    with watched(before=note):
        assert await fed(service) == (ImportTally(updated=1), True)
    assert 0 < len(probes) <= 2 * runs.bit_length()
    # A run may have a million entries.
    assert all("LIMIT" in probe and "count(" not in probe for probe in probes)


async def test_the_imported_levels_of_a_run_are_those_of_its_entries(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imported_levels, "PAGE_OF_ENTRIES", 2)
    codes = [f"S{number}" for number in range(6)]
    await service.load([MAIN, SHOP], [sku(code, level(SHOP, 1)) for code in codes])
    random = Random(5)
    staging, runs = Staging(), ["bulk_none"]
    for name in ("a", "b", "c"):
        rows = [(code, place.id) for code in codes for place in (MAIN, SHOP)]
        chosen = random.sample(rows, 5)
        content = "sku,warehouse_id,quantity\n" + "".join(f"{a},{b},1\n" for a, b in chosen)
        await imported(service.database, service.tenant_id, content, FileKind.COUNTS, name=name)
        names = await warehouse_names(service.database, service.tenant_id)
        feed = staged(content, FileKind.COUNTS, names=names)
        runs.append(importing.run_of(feed, service.tenant_id, name=name, created_by="x").id)
        feed.close()
    asked = [(code, id_) for code in [*codes, "X"] for id_ in (MAIN.id, SHOP.id)]
    numbers = []
    async with service.database.snapshot() as snapshot:
        for run in runs:
            found = await ImportedLevels(staging, run).among(snapshot, service.tenant_id, asked)
            entries = select(adjustment.c.sku, adjustment.c.warehouse_id).where(
                adjustment.c.tenant_id == service.tenant_id, adjustment.c.bulk_id == run
            )
            assert sorted(found) == sorted(map(tuple, await snapshot.rows(entries, {})))
            numbers.append(len(found))
    staging.close()
    assert numbers == [0, 5, 5, 5]


async def test_the_entries_of_a_run_are_read_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "IMPORT_BATCH_ROWS", 1)
    await service.load([MAIN], [sku("A"), sku("NEW")])
    entries: list[int] = []
    rows = Staging.add_imported

    def note(staging: Staging, run_id: str, levels: Collection[LevelKey]) -> None:
        entries.append(len(levels))
        rows(staging, run_id, levels)

    monkeypatch.setattr(Staging, "add_imported", note)
    await fed(service)
    # The batch after the first one reads that of the first.
    assert sum(entries) == 1
    entries.clear()
    await fed(service, name="again")
    assert sum(entries) == 1


async def test_a_run_that_two_processes_write_is_written_once(service: Service) -> None:
    await service.load([MAIN], [sku("A"), sku("NEW")])
    names = await warehouse_names(service.database, service.tenant_id)
    tallies = []
    async with AsyncExitStack() as stack:
        validated = []
        for _ in range(2):
            staging = staged(FEED, FileKind.COUNTS, names=names)
            stack.callback(staging.close)
            run = importing.run_of(staging, service.tenant_id, name="May", created_by="importer")
            await importing.validate(service.database, staging, run, silent)
            validated.append((staging, run))
        for staging, run in validated:
            result = await importing.write(service.database, staging, run, silent)
            tallies.append(result.tally)
            await count(service, "A", -3)
    assert tallies == [ImportTally(created=2), ImportTally(already_imported=2)]
    assert await on_hand(service) == 4
