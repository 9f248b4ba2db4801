"""Acknowledged writes survive kills, and no write is executed twice."""

import os
import secrets
from typing import Final

import pytest

from tests.torture.audit import Broken, Entry, compare
from tests.torture.run import Plan, Report, torture

TOLD: Final = {
    "a/0": Entry("A", "wh_1", 5, 0, "adj_1"),
    "a/1": Entry("B", "wh_1", 7, 0, "adj_2"),
    "b/0": Entry("A", "wh_1", 9),
}
THERE: Final = [
    ("a/0", Entry("A", "wh_1", 5, 0, "adj_1")),
    ("a/1", Entry("B", "wh_1", 7, 0, "adj_2")),
    ("b/0", Entry("A", "wh_1", 9, 5, "adj_3")),
]


def test_the_audit_accepts_the_acknowledged_ledger() -> None:
    compare(TOLD, THERE)


@pytest.mark.parametrize(
    ("ledger", "says"),
    [
        (THERE[:2], "lost: b/0"),
        (THERE[1:], "lost: a/0"),
        ([*THERE, THERE[1]], "doubled: a/1"),
        ([*THERE, ("b/0", Entry("A", "wh_1", 9, 9, "adj_4"))], "doubled: b/0"),
        (
            [*THERE, ("c/0", Entry("A", "wh_1", 9, 9, "adj_4"))],
            "made up: no client was told of c/0",
        ),
        ([*THERE[:2], ("b/0", Entry("A", "wh_1", 8, 5, "adj_3"))], "changed: b/0"),
        ([*THERE[:2], ("b/0", Entry("A", "wh_2", 9, 5, "adj_3"))], "changed: b/0"),
        ([("a/0", Entry("A", "wh_1", 5, 1, "adj_1")), *THERE[1:]], "changed: a/0"),
        ([("a/0", Entry("A", "wh_1", 5, 0, "adj_9")), *THERE[1:]], "changed: a/0"),
    ],
)
def test_the_audit_finds_wrong_entries(ledger: list[tuple[str, Entry]], says: str) -> None:
    with pytest.raises(Broken, match=says):
        compare(TOLD, ledger)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_nothing_is_lost_or_doubled_by_random_kills(engine: str) -> None:
    seed = os.environ.get("TORTURE_SEED") or secrets.token_hex(4)
    print(f"TORTURE_SEED={seed}")
    plan = Plan(engine=engine, seed=seed, operations=3_000, kills=12)
    seen: list[Report] = []
    report = await torture(plan, progress=seen.append)

    print(report)
    assert report.operations >= plan.operations
    assert report.kills.total() == report.audits == len(seen) == plan.kills
    # GraphQL has no header that says so.
    assert report.counts["replayed"] >= report.counts["sent again by REST"] > 0
    # Besides the adjustments, of statuses and reservations.
    assert report.changes > report.entries
    assert report.counts["sent again on purpose"] > plan.operations * 0.3
