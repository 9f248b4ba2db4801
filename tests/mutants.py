"""Break the service in known ways, each in a copy, and show that a test goes red on each.

python -m tests.mutants [name ..]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.databases import postgresql_server

ROOT: Final = Path(__file__).parents[1]
COPIED: Final = ("app", "rest_shim", "tests", "pyproject.toml", "schema.graphql")
RED: Final = 1


@dataclass(frozen=True, slots=True)
class Mutant:
    """Text of exactly one file of the service, its replacement, and the tests that must fail."""

    name: str
    old: str
    new: str
    tests: tuple[str, ...]


CHAIN: Final = "tests/ledger/test_chain.py"
CONCURRENCY: Final = "tests/ledger/test_concurrency.py"
RULES: Final = (
    "tests/ledger/test_rules.py"
    "::test_a_write_decides_by_the_rules_of_the_time_at_which_it_is_posted"
)
SUMS: Final = "tests/ledger/test_sums.py"
SUMMED_UP: Final = f"{SUMS}::test_counts_and_sums_are_those_of_the_ledger_however_much_is_summed_up"
MEANWHILE: Final = f"{SUMS}::test_what_comes_between_reading_and_keeping_is_not_left_out"
DERIVED: Final = "tests/ledger/test_derived_figures.py"
RESERVATIONS: Final = "tests/ledger/test_reservations.py"
VERSIONS: Final = "tests/ledger/test_versions.py"
AT_ONCE: Final = (
    f"{CONCURRENCY}::test_a_write_at_once_waits_for_another_and_starts_over_from_what_it_left"
)
MUTANTS: Final = (
    Mutant(
        "no row lock",
        "        .with_for_update(key_share=True, of=sku)\n",
        "",
        (AT_ONCE,),
    ),
    Mutant(
        "posting on stock that has moved",
        "and_(sku.c.sku == rows.c.sku, sku.c.version == rows.c.version_before)",
        "and_(sku.c.sku == rows.c.sku, sku.c.sku == sku.c.sku)",
        (AT_ONCE,),
    ),
    Mutant(
        "entries chained to nothing",
        "chain_hash(last.get(level), tenant, row)",
        "chain_hash(None, tenant, row)",
        (f"{CHAIN}::test_heads_that_are_taken_among_writers_hold",),
    ),
    Mutant(
        "a head of what may still be joined by others",
        "(now - SETTLED_AFTER)",
        "(now + SETTLED_AFTER)",
        (f"{CHAIN}::test_heads_that_are_taken_among_writers_hold",),
    ),
    Mutant(
        "a head that covers the first level alone",
        "            self._digest.update(_line(*self._last))\n",
        "            return\n",
        (f"{CHAIN}::test_a_history_that_was_hashed_anew_is_found_by_a_head_alone",),
    ),
    Mutant(
        "an entry that is posted whenever it was decided",
        "posting.entries and uptime() - before.read_at >",
        "posting.entries and before.read_at is None and 0 >",
        (f"{CHAIN}::test_what_was_decided_long_ago_is_decided_anew",),
    ),
    Mutant(
        "no row lock before it is read what many SKUs have",
        "        await session.rows(_lock_skus(), asked)\n",
        "        pass\n",
        (f"{CONCURRENCY}::test_what_is_about_many_skus_reads_what_it_waited_for",),
    ),
    Mutant(
        "a bulk decided on warehouses that are not what they were",
        "        moved = frozenset(codes)\n",
        "        pass\n",
        (
            f"{CONCURRENCY}"
            "::test_a_bulk_that_waited_is_refused_by_a_warehouse_that_was_closed_meanwhile",
        ),
    ),
    Mutant(
        "a warehouse read outside the lock",
        "    if shape.is_filling:\n        are_all = and_(are_all, _are_active())\n",
        "",
        (f"{RULES}[postgresql-a deactivated warehouse-set_]",),
    ),
    Mutant(
        "a deactivation that does not wait for writes",
        "        await await_writes_into(writing.database, tenant, [id_])\n",
        "        pass\n",
        (f"{RULES}[postgresql-a deactivated warehouse-reserve]",),
    ),
    Mutant(
        "entries dated by the worker's clock",
        "    now = before.now\n",
        "    now = datetime.now(before.now.tzinfo)\n",
        ("tests/ledger/test_clocks.py",),
    ),
    Mutant(
        "a bulk decided on what others have changed since",
        "if versions.get(row.sku) != row.version)",
        "if row.sku not in versions)",
        (f"{CONCURRENCY}::test_a_bulk_reads_what_it_waited_for_and_need_not_start_over",),
    ),
    Mutant(
        "rows of a bulk that were made up of what others have changed since",
        "{code: it for code, it in ahead.items() if code not in moved}",
        "ahead",
        (f"{CONCURRENCY}::test_a_bulk_reads_what_it_waited_for_and_need_not_start_over",),
    ),
    Mutant(
        "counts locked before all else",
        "enumerate(reversed(writes))",
        "enumerate(writes)",
        (f"{CONCURRENCY}::test_counts_that_all_writers_share_are_locked_last",),
    ),
    Mutant(
        "unsorted locks",
        "        .order_by(sku.c.sku)\n        .with_for_update(key_share=True)\n",
        "        .order_by(func.random())\n        .with_for_update(key_share=True)\n",
        (f"{CONCURRENCY}::test_overlapping_bulks_in_any_order_all_succeed",),
    ),
    Mutant(
        "no tenant in the query of what a write is about",
        '.where(SKU_CONDITIONS["tenant_id"](sku.c), in_key_array(dialect, sku.c.sku, "codes"))',
        '.where(in_key_array(dialect, sku.c.sku, "codes"))',
        ("tests/rest/test_set.py",),
    ),
    Mutant(
        "no tenant in the query of the list",
        'SKU_CONDITIONS: Final[Conditions] = {\n    "tenant_id": _equals("tenant_id"),',
        "SKU_CONDITIONS: Final[Conditions] = {\n"
        '    "tenant_id": lambda columns: columns.sku == columns.sku,',
        ("tests/rest/test_list.py",),
    ),
    Mutant(
        "the counts of a warehouse not moved",
        "_counted_as(after[new.sku], new)",
        "_counted_as(after[new.sku], after[new.sku].figures)",
        (DERIVED,),
    ),
    Mutant(
        "a bulk that is to abort goes on",
        "if on_error is OnError.ABORT and refusals:",
        "if False and refusals:",
        (DERIVED,),
    ),
    Mutant(
        "the key committed apart from its work",
        "        planned = await plan(session, locked=True)\n",
        "        planned = await plan(session, locked=True)\n"
        "        if key is not None:\n"
        "            outcome = _encoded(planned.outcome)\n"
        "            await _post_claim(session, Claim(caller, key, request.fingerprint, outcome))\n"
        "            await connection.commit()\n",
        ("tests/ledger/test_idempotency.py", "tests/ledger/test_crashes.py"),
    ),
    Mutant(
        "a key that is somebody's does not stop the posting",
        "    is_ready = _number_of(ready) == ONE\n",
        "    is_ready = are_all\n",
        ("tests/ledger/test_idempotency.py",),
    ),
    Mutant(
        "the fingerprint of a key not compared",
        "if row.fingerprint != request.fingerprint:",
        "if False:",
        ("tests/ledger/test_idempotency.py",),
    ),
    Mutant(
        "the version not checked",
        "if refusal or (refusal := _stale(update, record, old)):",
        "if refusal:",
        (VERSIONS,),
    ),
    Mutant(
        "summed up before all of it is there",
        "    return now - CLOSED_AFTER\n",
        "    return now + CLOSED_AFTER\n",
        (f"{SUMS}::test_what_is_two_hours_old_is_closed",),
    ),
    Mutant(
        "sums kept without what came to them since they were read",
        "    if await connection.scalar(_number(), asked) != entries:\n        return False\n",
        "",
        (MEANWHILE,),
    ),
    Mutant(
        "sums kept although something came late",
        'await summed_alone(asked["tenant_id"], connection) != known:',
        'await summed_alone(asked["tenant_id"], connection) == 0:',
        (MEANWHILE,),
    ),
    Mutant(
        "sums kept without what came late and was summed up meanwhile",
        "func.coalesce(func.sum(ledger_sum.c.entries), ZERO))\n    more",
        "ZERO)\n    more",
        (f"{SUMS}::test_what_was_read_before_something_late_was_summed_up_is_not_kept",),
    ),
    Mutant(
        "what is late left out of what is summed up",
        "          IF NEW.created_at < known THEN",
        "          IF false THEN",
        (SUMMED_UP,),
    ),
    Mutant(
        "an adjustment counted although a sum has it",
        "at >= since, at < end)",
        "at < end)",
        (SUMMED_UP,),
    ),
    Mutant(
        "a sum of later adjustments taken for one of a period",
        "ledger_sum.c.until <= limit)",
        "ledger_sum.c.until <= summed_until(dialect))",
        (SUMMED_UP,),
    ),
    Mutant(
        "sums believed in that do not hold any more",
        "limit = earliest(dialect, summed_until(dialect), end)",
        "limit = end",
        (SUMMED_UP,),
    ),
    Mutant(
        "a sum without the one before it",
        "*is_of_group(kind, names), ledger_sum.c.until == LAST",
        "*is_of_group(kind, names), ledger_sum.c.until == UNTIL",
        (f"{SUMS}::test_a_sum_has_all_that_came_before_it",),
    ),
    Mutant(
        "all reservations counted as those without a reference",
        " & (columns.reference != EMPTY)",
        "",
        (RESERVATIONS,),
    ),
    Mutant(
        "more reserved than is available",
        "if quantity > level.available and not may_oversell:",
        "if False:",
        (RESERVATIONS,),
    ),
    Mutant(
        "a reservation that is extended counted as another one",
        "return 1 if written.version == 1 else 0",
        "return 1",
        (RESERVATIONS,),
    ),
    Mutant(
        "a count of reservations that begins anew with each",
        "set_={number: counts.c[number] + insert.excluded[number]},",
        "set_={number: insert.excluded[number]},",
        (RESERVATIONS,),
    ),
    Mutant(
        "a reservation that ends again",
        "    if ended_at is None:\n",
        "    if True:\n",
        (RESERVATIONS,),
    ),
    Mutant(
        "no retry",
        "ATTEMPTS: Final = 5",
        "ATTEMPTS: Final = 1",
        ("tests/ledger/test_retries.py",),
    ),
    Mutant(
        "a retry after COMMIT was sent",
        "            commit.is_under_way = True\n            try:\n",
        "            try:\n",
        ("tests/ledger/test_retries.py",),
    ),
    Mutant(
        "a writer that begins by reading",
        'begin="BEGIN IMMEDIATE"',
        'begin="BEGIN"',
        ("tests/ledger/test_retries.py",),
    ),
    Mutant(
        "a client that hangs up takes its transaction along",
        "        return await asyncio.shield(task)\n",
        "        return await task\n",
        ("tests/ledger/test_retries.py",),
    ),
)


def main() -> None:
    """Run the mutants; exit non-zero if one of them lives."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", help="Some of them; all without it.")
    names = parser.parse_args().names
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    with postgresql_server() as server, ThreadPoolExecutor(os.cpu_count()) as pool:
        died = pool.map(partial(_dies, server=server.render_as_string(hide_password=False)), chosen)
        living = [mutant.name for mutant, dies in zip(chosen, died, strict=True) if not dies]
    if living or not chosen:
        sys.exit(f"These mutants live: {', '.join(living)}." if living else "There is none such.")
    print(f"All {len(chosen)} mutants are found.")


def file_of(mutant: Mutant, root: Path) -> Path:
    """Find the one file that has the text once."""
    files = [path for room in ("app", "rest_shim") for path in sorted((root / room).rglob("*.py"))]
    counts = {path: path.read_text(encoding="utf-8").count(mutant.old) for path in files}
    found = [path for path, count in counts.items() if count]
    if sum(counts.values()) != 1:
        names = ", ".join(str(path.relative_to(root)) for path in found) or "no file"
        sys.exit(f"{mutant.name}: its text must stand in the service once; found in {names}.")
    return found[0]


def _dies(mutant: Mutant, *, server: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="inventory-mutant-") as name:
        copy = Path(name)
        for source in COPIED:
            place = ROOT / source
            if place.is_dir():
                # With what is compiled: of a mutant that is one file.
                shutil.copytree(place, copy / source)
            else:
                shutil.copy(place, copy / source)
        file = file_of(mutant, copy)
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - our own tests
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "TEST_DATABASE_URL": server},
            capture_output=True,
            text=True,
            check=False,
        )
    # Other codes mean that the tests could not run: that shows nothing.
    reds = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    dies = done.returncode == RED and bool(reds)
    print(
        "found" if dies else "LIVES",
        f" {mutant.name}:",
        *(reds or [done.stdout[-500:] + done.stderr[-500:]]),
    )
    return dies


if __name__ == "__main__":
    main()
