"""Long torture runs: python -m tests.torture --engine postgresql."""

import argparse
import asyncio
import secrets
import sys

from app.ledger.replay import LedgerBroken
from tests.ledger.feed import FeedBroken
from tests.torture.audit import Broken
from tests.torture.run import Plan, Report, torture


def main() -> None:
    """Run, print the report, and exit non-zero at the first broken promise."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Write through real processes, kill them at random, and audit the ledger "
        "after every kill.",
    )
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), required=True)
    parser.add_argument("--operations", type=int, default=200_000, help="To be acknowledged.")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="Random if not said.")
    plan = Plan(**vars(parser.parse_args()))
    print(f"seed {plan.seed}", file=sys.stderr)
    try:
        report = asyncio.run(torture(plan, progress=_progress))
    except* (Broken, FeedBroken, LedgerBroken) as group:
        sys.exit(f"seed {plan.seed}: {group.exceptions}")
    print(report)


def _progress(report: Report) -> None:
    print(
        f"{report.seconds:8.1f} s  {report.operations:7,} operations  "
        f"{report.entries:8,} entries  {report.kills.total()} kills",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
