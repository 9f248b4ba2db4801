"""Breaks the service in known ways, each in a copy, and requires a failing test for each.

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
    """A unique text of the service, its replacement, and the tests of which one must fail."""

    name: str
    old: str
    new: str
    tests: tuple[str, ...]


CHAIN: Final = "tests/ledger/test_chain.py"
CONCURRENCY: Final = "tests/ledger/test_concurrency.py"
RULES: Final = "tests/ledger/test_rules.py::test_a_write_is_decided_by_the_rules_at_its_posting"
SUMS: Final = "tests/ledger/test_sums.py"
TOTALS: Final = f"{SUMS}::test_totals_are_exact_at_every_state_of_the_rollup"
ROLLUPS: Final = "tests/ledger/test_rollup_concurrency.py"
BETWEEN: Final = f"{ROLLUPS}::test_an_adjustment_between_reading_and_storing_discards_the_sums"
DERIVED: Final = "tests/ledger/test_derived_figures.py"
RESERVATIONS: Final = "tests/ledger/test_reservations.py"
KEYS: Final = "tests/ledger/test_idempotency.py"
RETRIES: Final = "tests/ledger/test_retries.py"
VERSIONS: Final = "tests/ledger/test_versions.py"
SINGLE_STATEMENT: Final = (
    f"{CONCURRENCY}::test_a_single_statement_write_that_waited_retries_on_the_committed_row"
)
# The end of PostgreSQL's trigger function in the migration. `app/database/triggers.py` differs in
# the last line.
RESET: Final = (
    "            UPDATE tenant SET summed_until = date_trunc('day', NEW.created_at, 'UTC')\n"
    "            WHERE tenant_id = NEW.tenant_id;\n"
    "          END IF;\n"
    "          RETURN NULL;\n"
    "        END$$\n"
    '        """,\n'
    '        """\n'
)
MUTANTS: Final = (
    Mutant(
        "no row lock",
        "        .with_for_update(key_share=True, of=sku)\n",
        "",
        (SINGLE_STATEMENT,),
    ),
    Mutant(
        "posting on changed stock",
        "and_(sku.c.sku == rows.c.sku, sku.c.version == rows.c.version_before)",
        "and_(sku.c.sku == rows.c.sku, sku.c.sku == sku.c.sku)",
        (SINGLE_STATEMENT,),
    ),
    Mutant(
        "entries without the previous hash",
        "chain_hash(last.get(level), tenant_id, row)",
        "chain_hash(None, tenant_id, row)",
        (f"{CHAIN}::test_heads_taken_during_writes_stay_valid",),
    ),
    Mutant(
        "a head of unsettled entries",
        "(now - SETTLED_AFTER)",
        "(now + SETTLED_AFTER)",
        (f"{CHAIN}::test_heads_taken_during_writes_stay_valid",),
    ),
    Mutant(
        "a head of the first level only",
        "            self._digest.update(_line(*self._last))\n",
        "            return\n",
        (f"{CHAIN}::test_a_rehashed_history_is_detected_only_by_a_head",),
    ),
    Mutant(
        "no limit on the age of a decision",
        "posting.entries and uptime() - before.read_at >",
        "posting.entries and before.read_at is None and 0 >",
        (f"{CHAIN}::test_a_stale_decision_is_repeated",),
    ),
    Mutant(
        "no row lock before reading many SKUs",
        "        await session.rows(_lock_skus(), parameters)\n",
        "        pass\n",
        (f"{CONCURRENCY}::test_a_write_to_many_skus_reads_the_rows_it_waited_for",),
    ),
    Mutant(
        "a bulk decided on stale warehouses",
        "        changed = frozenset(codes)\n",
        "        pass\n",
        (f"{CONCURRENCY}::test_a_bulk_that_waited_shows_a_warehouse_renamed_in_between",),
    ),
    Mutant(
        "warehouses not checked in the posting statement",
        "    if shape.has_increases:\n"
        "        is_unchanged = and_(is_unchanged, gaining_warehouses_are_active())\n",
        "",
        (f"{RULES}[postgresql-a deactivated warehouse-set_]",),
    ),
    Mutant(
        "a deactivation without waiting for writes",
        "        await wait_for_warehouse_writes(context.database, tenant_id, [id_])\n",
        "        pass\n",
        (f"{RULES}[postgresql-a deactivated warehouse-reserve]",),
    ),
    Mutant(
        "entries dated by the process clock",
        "                seconds = expected\n",
        "                pass\n",
        ("tests/ledger/test_clocks.py",),
    ),
    Mutant(
        "a bulk decided on stale SKUs",
        "if versions.get(row.sku) != row.version)",
        "if row.sku not in versions)",
        (f"{CONCURRENCY}::test_a_bulk_that_waited_reads_the_committed_rows_without_a_retry",),
    ),
    Mutant(
        "stale prepared rows in a bulk",
        "{code: rows for code, rows in prepared.items() if code not in changed}",
        "prepared",
        (f"{CONCURRENCY}::test_a_bulk_that_waited_reads_the_committed_rows_without_a_retry",),
    ),
    Mutant(
        "counts locked first",
        "enumerate(reversed(writes))",
        "enumerate(writes)",
        (f"{CONCURRENCY}::test_shared_counts_are_locked_last",),
    ),
    Mutant(
        "unsorted locks",
        "        .order_by(sku.c.sku)\n        .with_for_update(key_share=True)\n",
        # The module does not import `func`.
        "        .order_by(__import__('sqlalchemy').func.random())\n"
        "        .with_for_update(key_share=True)\n",
        (f"{CONCURRENCY}::test_overlapping_bulks_in_any_order_all_succeed",),
    ),
    Mutant(
        "no tenant in the query of SKUs to write",
        'sku.c.tenant_id == TENANT, in_key_array(dialect, sku.c.sku, "codes")',
        'in_key_array(dialect, sku.c.sku, "codes")',
        ("tests/rest/test_set.py",),
    ),
    Mutant(
        "no tenant in the query of the list",
        'SKU_CONDITIONS: Final[Conditions] = {\n    "tenant_id": of_tenant,',
        "SKU_CONDITIONS: Final[Conditions] = {\n"
        '    "tenant_id": lambda columns: columns.tenant_id == columns.tenant_id,',
        ("tests/rest/test_list.py",),
    ),
    Mutant(
        "warehouse counts not updated",
        "_counted_status(after[new.sku], new)",
        "_counted_status(after[new.sku], after[new.sku].figures)",
        (DERIVED,),
    ),
    Mutant(
        "a bulk that continues after a refusal",
        "if on_error is OnError.ABORT and refusals:",
        "if False and refusals:",
        (DERIVED,),
    ),
    Mutant(
        "the key committed before its write",
        "        decision = await decide(session, locked=True)\n",
        "        decision = await decide(session, locked=True)\n"
        "        if key is not None:\n"
        "            row = KeyRow(caller, key, request.fingerprint, decision.outcome)\n"
        "            await store_key(session, row)\n"
        "            await connection.commit()\n",
        (f"{KEYS}::test_a_repeated_write_has_one_effect_and_one_response",),
    ),
    Mutant(
        "posting although the key is taken",
        "    is_ready = row_count(ready) == ONE\n",
        "    is_ready = is_unchanged\n",
        (f"{KEYS}::test_a_repeated_write_has_one_effect_and_one_response",),
    ),
    Mutant(
        "the fingerprint of a key not compared",
        "if row.fingerprint != request.fingerprint:",
        "if False:",
        (f"{KEYS}::test_a_key_with_any_changed_input_is_refused",),
    ),
    Mutant(
        "the version not checked",
        "if refusal or (refusal := _stale(update, record, old)):",
        "if refusal:",
        (VERSIONS,),
    ),
    Mutant(
        "a rollup of open periods",
        "    return now - CLOSED_AFTER\n",
        "    return now + CLOSED_AFTER\n",
        (f"{SUMS}::test_a_period_closes_after_two_hours",),
    ),
    Mutant(
        "sums stored without newer adjustments",
        "    if await connection.scalar(_entry_count(), parameters) != entries:\n"
        "        return False\n",
        "",
        (BETWEEN,),
    ),
    Mutant(
        "sums stored despite a late adjustment",
        'await lock_rollup(parameters["tenant_id"], connection) != known:',
        'await lock_rollup(parameters["tenant_id"], connection) == 0:',
        (BETWEEN,),
    ),
    Mutant(
        "sums stored despite a concurrent rollup",
        "func.coalesce(func.sum(ledger_sum.c.entries), ZERO))\n    more",
        "ZERO)\n    more",
        (f"{ROLLUPS}::test_sums_read_before_a_concurrent_rollup_are_discarded",),
    ),
    Mutant(
        "no rollup reset by a late adjustment",
        f"          IF NEW.created_at < known THEN\n{RESET}",
        f"          IF false THEN\n{RESET}",
        (TOTALS,),
    ),
    Mutant(
        "adjustments counted twice",
        "at >= since, at < end]",
        "at < end]",
        (TOTALS,),
    ),
    Mutant(
        "a sum that ends after the period",
        "ledger_sum.c.until <= limit",
        "ledger_sum.c.until <= summed_until(self.dialect)",
        (TOTALS,),
    ),
    Mutant(
        "sums used after a reset",
        "limit = earliest(self.dialect, summed_until(self.dialect), end)",
        "limit = end",
        (TOTALS,),
    ),
    Mutant(
        "a sum without the previous sum",
        "        *is_of_group(kind, names),\n        ledger_sum.c.until == LAST,\n",
        "        *is_of_group(kind, names),\n        ledger_sum.c.until == UNTIL,\n",
        (f"{SUMS}::test_a_sum_covers_all_earlier_adjustments",),
    ),
    Mutant(
        "all reservations counted without a reference",
        " & (columns.reference != EMPTY)",
        "",
        (f"{RESERVATIONS}::test_reservations_are_listed_by_status_and_reference",),
    ),
    Mutant(
        "more reserved than is available",
        "if quantity > level.available and not may_oversell:",
        "if False:",
        (f"{RESERVATIONS}::test_lines_of_one_level_are_summed_before_the_check",),
    ),
    Mutant(
        "an extended reservation counted twice",
        "return 1 if reservation.version == 1 else 0",
        "return 1",
        (f"{RESERVATIONS}::test_an_expired_reservation_holds_nothing",),
    ),
    Mutant(
        "a count of reservations that restarts",
        "set_={number: counts.c[number] + insert.excluded[number]},",
        "set_={number: insert.excluded[number]},",
        (f"{RESERVATIONS}::test_reservations_are_listed_by_status_and_reference",),
    ),
    Mutant(
        "a reservation that ends twice",
        "    if ended_at is None:\n",
        "    if True:\n",
        (f"{RESERVATIONS}::test_a_reservation_ends_once",),
    ),
    Mutant(
        "no retry",
        "ATTEMPTS: Final = 5",
        "ATTEMPTS: Final = 1",
        (f"{RETRIES}::test_the_victim_of_a_deadlock_retries",),
    ),
    Mutant(
        "a retry after COMMIT was sent",
        "            commit.is_under_way = True\n            try:\n",
        "            try:\n",
        (f"{RETRIES}::test_an_uncertain_commit_is_not_retried",),
    ),
    Mutant(
        "a write transaction that starts with a read",
        'begin="BEGIN IMMEDIATE"',
        'begin="BEGIN"',
        (f"{RETRIES}::test_processes_that_read_and_then_write_do_not_collide",),
    ),
    Mutant(
        "a transaction cancelled with its client",
        "        return await asyncio.shield(task)\n",
        "        return await task\n",
        (f"{RETRIES}::test_a_cancelled_request_does_not_interrupt_its_transaction",),
    ),
)


def main() -> None:
    """Run the mutants; exit non-zero if no test fails on one of them."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", help="Names of mutants; default: all.")
    names = parser.parse_args().names
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    with postgresql_server() as server, ThreadPoolExecutor(os.cpu_count()) as pool:
        died = pool.map(partial(_dies, server=server.render_as_string(hide_password=False)), chosen)
        living = [mutant.name for mutant, dies in zip(chosen, died, strict=True) if not dies]
    if living or not chosen:
        sys.exit(
            f"These mutants live: {', '.join(living)}." if living else "No mutant has such a name."
        )
    print(f"All {len(chosen)} mutants are found.")


def file_of(mutant: Mutant, root: Path) -> Path:
    """Path of the only file that contains the text, exactly once; exits if there are others."""
    files = [path for room in ("app", "rest_shim") for path in sorted((root / room).rglob("*.py"))]
    counts = {path: path.read_text(encoding="utf-8").count(mutant.old) for path in files}
    matching = [path for path, count in counts.items() if count]
    if sum(counts.values()) != 1:
        names = ", ".join(str(path.relative_to(root)) for path in matching) or "no file"
        sys.exit(
            f"{mutant.name}: its text must occur in the service exactly once; it is in {names}."
        )
    return matching[0]


def _dies(mutant: Mutant, *, server: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="inventory-mutant-") as name:
        copy = Path(name)
        for source in COPIED:
            origin = ROOT / source
            if origin.is_dir():
                # Including bytecode, so that only the mutant is compiled.
                shutil.copytree(origin, copy / source)
            else:
                shutil.copy(origin, copy / source)
        file = file_of(mutant, copy)
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "TEST_DATABASE_URL": server},
            capture_output=True,
            text=True,
            check=False,
        )
    # Other exit codes mean that the tests did not run, which shows nothing.
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
