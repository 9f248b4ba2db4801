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


LANE: Final = "tests/ledger/test_lane.py"
LANE_FAULTS: Final = "tests/ledger/test_lane_faults.py"
OTHER_PROCESS: Final = f"{LANE}::test_a_write_is_decided_on_the_stock_that_another_process_left"
SEQUENCE: Final = f"{LANE}::test_writes_of_a_batch_see_the_effects_of_those_before_them"
CHAIN: Final = "tests/ledger/test_chain.py"
SUMS: Final = "tests/ledger/test_sums.py"
TOTALS: Final = f"{SUMS}::test_totals_are_exact_at_every_state_of_the_rollup"
ROLLUPS: Final = "tests/ledger/test_rollup_concurrency.py"
DERIVED: Final = "tests/ledger/test_derived_figures.py"
RESERVATIONS: Final = "tests/ledger/test_reservations.py"
FOR_SALE: Final = "tests/ledger/test_stock_for_sale.py"
KEYS: Final = "tests/ledger/test_idempotency.py"
RETRIES: Final = "tests/ledger/test_retries.py"
VERSIONS: Final = "tests/ledger/test_versions.py"
MUTANTS: Final = (
    Mutant(
        "no lock on the tenant",
        'return f"{beginning}; {stall}; {lock}"',
        'return f"{beginning}; {stall}"',
        (OTHER_PROCESS,),
    ),
    Mutant(
        "stock read before the lock",
        "            await lock.begin(session, beginning)\n"
        "            result = await work(session)\n",
        "            begin, _, lock = beginning(1_000).rpartition('; ')\n"
        "            await session.begin(begin)\n"
        "            result = await work(session)\n"
        "            await session._connection.execute(lock)\n",
        (OTHER_PROCESS,),
    ),
    Mutant(
        "writes that do not see those before them",
        "        self._stock.apply(changes)\n",
        "        pass\n",
        (SEQUENCE,),
    ),
    Mutant(
        "a renamed warehouse not seen in its batch",
        "            self._set_warehouse(warehouse)\n",
        "            self.warehouses[warehouse.id] = warehouse\n",
        (f"{LANE}::test_a_write_after_a_rename_in_its_batch_has_the_new_name",),
    ),
    Mutant(
        "a refused write whose changes reach the next",
        "            after[update.sku] = outcome.sku\n",
        "            after[update.sku] = stock.skus[update.sku] = outcome.sku\n",
        (f"{LANE}::test_a_refused_write_changes_nothing_for_the_others_of_its_batch",),
    ),
    Mutant(
        "refused changes that take the batch along",
        "        if len(in_time) > 1:\n"
        "            await _run_halves(database, tenant_id, in_time)\n"
        "            return\n"
        "        in_time[0].fail(error)\n",
        "        for pending in in_time:\n            pending.fail(error)\n",
        (
            f"{LANE_FAULTS}::test_changes_that_the_database_refuses_are_an_error_of_their_write_alone",
        ),
    ),
    Mutant(
        "a deadline that takes the batch along",
        "    except OutOfTime:\n        # First",
        "    except ZeroDivisionError:\n        # First",
        (f"{LANE_FAULTS}::test_a_deadline_within_a_transaction_is_that_of_its_write_alone",),
    ),
    Mutant(
        "deadlines that end every transaction",
        "await _run_halves(database, tenant_id, by_time)",
        "await run_batch(database, tenant_id, in_time)",
        (f"{LANE_FAULTS}::test_deadlines_that_follow_each_other_do_not_end_every_transaction",),
    ),
    Mutant(
        "an answer before the commit",
        "            commit.is_under_way = True\n            await session.commit()\n",
        "            commit.is_under_way = True\n"
        "            if beginning.func == self._beginnings.lane:\n"
        "                asyncio.get_running_loop().create_task(session.commit())\n"
        "                return result\n"
        "            await session.commit()\n",
        (f"{LANE}::test_no_outcome_is_returned_before_the_commit[postgresql]",),
    ),
    Mutant(
        "a commit repeated after an unknown error",
        "        if spoils_connection(error) and not",
        "        if False and not",
        (f"{LANE_FAULTS}::test_an_error_at_the_commit_makes_every_write_of_the_batch_uncertain",),
    ),
    Mutant(
        "batches without a maximum size",
        "            if batch and size > MAX_BATCH_SIZE:\n",
        "            if False:\n",
        (f"{LANE}::test_batches_have_a_maximum_size",),
    ),
    Mutant(
        "counts of SKUs not written",
        "    await write(add_sku_counts(dialect), _sku_counts(changes, levels))\n",
        "",
        (SEQUENCE,),
    ),
    Mutant(
        "counts of reservations not written",
        "    await write(add_reservation_counts(dialect), _reservation_counts(changes))\n",
        "",
        (SEQUENCE,),
    ),
    Mutant(
        "entries without the previous hash",
        "chain_hash(last_hash, tenant_id, row)",
        "chain_hash(None, tenant_id, row)",
        (f"{LANE}::test_concurrent_writes_of_one_sku_are_one_transaction_with_a_dense_chain",),
    ),
    Mutant(
        "positions that do not continue within a batch",
        "        self.last_position += len(changes.entries)\n",
        "        pass\n",
        (f"{LANE}::test_concurrent_writes_of_one_sku_are_one_transaction_with_a_dense_chain",),
    ),
    Mutant(
        "entries dated before the last one",
        "return max(self.now, self.last_entry_at or self.now)",
        "return self.now",
        (TOTALS,),
    ),
    Mutant(
        "a head not compared",
        "if head and head.position == replayed.position and head != replayed:",
        "if False:",
        (f"{CHAIN}::test_a_rehashed_history_is_detected_only_by_a_head",),
    ),
    Mutant(
        "a head beyond the end of the ledger not noticed",
        "    if head and head.position > last.position:\n",
        "    if False:\n",
        (f"{CHAIN}::test_a_rehashed_history_is_detected_only_by_a_head",),
    ),
    Mutant(
        "an erased address that its token still has",
        "update(api_token).where(is_owner)",
        "update(api_token).where(is_owner & is_valid)",
        (
            "tests/ledger/test_persons.py"
            "::test_an_erased_person_is_named_nowhere_and_the_ledger_holds",
        ),
    ),
    Mutant(
        "warehouse counts not updated",
        "_counted_status(changes.skus[new.sku], new)",
        "_counted_status(changes.skus[new.sku], changes.skus[new.sku].figures)",
        (DERIVED,),
    ),
    Mutant(
        "the key committed before its write",
        "    await write(upsert_warehouses(dialect), [",
        "    await write(upsert_keys(dialect), [key_row(*kept) for kept in changes.keys.items()])\n"
        "    await session.commit()\n"
        "    await session.begin('BEGIN')\n"
        "    await write(upsert_warehouses(dialect), [",
        (f"{LANE_FAULTS}::test_a_write_and_its_key_are_stored_together",),
    ),
    Mutant(
        "the key stored after its write",
        "    await write(upsert_keys(dialect), [",
        "    await session.commit()\n"
        "    await session.begin('BEGIN')\n"
        "    await write(upsert_keys(dialect), [",
        (f"{LANE_FAULTS}::test_a_write_and_its_key_are_stored_together",),
    ),
    Mutant(
        "a key not seen in its batch",
        "changes.keys[id_] = stored[id_] = row",
        "changes.keys[id_] = row",
        (f"{LANE}::test_a_key_twice_in_a_batch_has_one_effect_and_one_answer",),
    ),
    Mutant(
        "a write although its key is taken",
        "        if id_ is not None and id_ in stored:\n",
        "        if False:\n",
        ("tests/ledger/test_idempotency.py",),
    ),
    Mutant(
        "the fingerprint of a key not compared",
        "if stored.fingerprint != request.fingerprint:",
        "if False:",
        ("tests/ledger/test_idempotency.py",),
    ),
    Mutant(
        "the version not checked",
        "level=old) or _stale(update, record, old)",
        "level=old)",
        (VERSIONS,),
    ),
    Mutant(
        "an extended reservation counted twice",
        "            if before := self._stock.reservations.get(id_):\n"
        "                self._count(before, -1)\n",
        "",
        (f"{RESERVATIONS}::test_an_expired_reservation_holds_nothing",),
    ),
    Mutant(
        "entries dated by the process clock",
        "                seconds = expected\n",
        "                pass\n",
        ("tests/ledger/test_clocks.py",),
    ),
    Mutant(
        "no tenant in the query of SKUs to write",
        "*SKU_COLUMNS).where(\n        sku.c.tenant_id == TENANT, in_key",
        "*SKU_COLUMNS).where(\n        in_key",
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
        "a bulk that continues after a refusal",
        "if on_error is OnError.ABORT and refusals:",
        "if False and refusals:",
        (f"{LANE}::test_a_refused_write_changes_nothing_for_the_others_of_its_batch",),
    ),
    Mutant(
        "sums stored despite a concurrent rollup",
        "    if present != since:\n",
        "    if False:\n",
        (f"{ROLLUPS}::test_sums_that_another_rollup_has_stored_first_are_discarded",),
    ),
    Mutant(
        "adjustments counted twice",
        "at > func.coalesce(last, ZERO), at < end]",
        "at < end]",
        (TOTALS,),
    ),
    Mutant(
        "a sum that ends after the period",
        "ledger_sum.c.until < end",
        "ledger_sum.c.until < NO_POSITION",
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
        "stock of a warehouse that is not sellable for sale",
        "return self.is_active and self.is_sellable",
        "return self.is_active",
        (f"{FOR_SALE}::test_stock_that_is_not_for_sale_is_on_hand_alone",),
    ),
    Mutant(
        "SKUs that do not follow their warehouse",
        "self.turns.append((old, warehouse))",
        "pass",
        (f"{FOR_SALE}::test_stock_that_is_not_for_sale_is_on_hand_alone",),
    ),
    Mutant(
        "only the first chunk of a warehouse follows",
        "while codes := await _codes_in(session, tenant_id, before.id, last):",
        "for codes in [await _codes_in(session, tenant_id, before.id, last)]:",
        (f"{FOR_SALE}::test_a_warehouse_is_larger_than_a_chunk",),
    ),
    Mutant(
        "low one piece above the reorder point",
        "return Status.LOW if sellable <= low else Status.NORMAL",
        "return Status.LOW if sellable <= low + 1 else Status.NORMAL",
        ("tests/ledger/test_reorder_points.py::test_the_reorder_point_decides_what_is_low",),
    ),
    Mutant(
        "more reserved than is available",
        "if quantity > level.available and not may_oversell:",
        "if False:",
        (f"{RESERVATIONS}::test_lines_of_one_level_are_summed_before_the_check",),
    ),
    Mutant(
        "a count of reservations that restarts",
        "set_={number: counts.c[number] + insert.excluded[number]},",
        "set_={number: insert.excluded[number]},",
        (f"{RESERVATIONS}::test_reservations_are_listed_by_status_and_reference",),
    ),
    Mutant(
        "a reservation that ends twice",
        "    if reservation.ended_at is None:\n",
        "    if True:\n",
        (f"{RESERVATIONS}::test_a_reservation_ends_once",),
    ),
    Mutant(
        "no retry",
        "if is_last or not commit.may_repeat",
        "if True or not commit.may_repeat",
        (f"{RETRIES}::test_the_victim_of_a_deadlock_retries",),
    ),
    Mutant(
        "a retry after COMMIT was sent",
        "            commit.is_under_way = True\n            await session.commit()\n",
        "            await session.commit()\n",
        (f"{RETRIES}::test_an_uncertain_commit_is_not_retried",),
    ),
    Mutant(
        "a write transaction that starts with a read",
        'return f"{wait}BEGIN IMMEDIATE"',
        'return f"{wait}BEGIN"',
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
