"""The long form of the fuzzing: python -m tests.fuzz --engine postgresql."""

import argparse
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.databases import create_database, migrated, postgresql_server
from tests.fuzz.runs import fuzz
from tests.fuzz.target import target


def main() -> None:
    """Run the cases, print a summary, and fail at the first fault."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Send generated requests and mutated bytes to a real server.",
    )
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), required=True)
    parser.add_argument("--cases", type=int, default=100_000, help="Number of Schemathesis cases.")
    parser.add_argument("--requests", type=int, default=100_000, help="Number of mutated requests.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", file=sys.stderr)
    started = time.monotonic()
    with ExitStack() as stack:
        if chosen.engine == "postgresql":
            server = stack.enter_context(postgresql_server())
            url = create_database(server, "fuzz")
        else:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="inventory-fuzz-"))
            url = f"sqlite+aiosqlite:///{Path(directory) / 'inventory.db'}"
        server_target = stack.enter_context(target(migrated(url)))
        statuses = fuzz(
            server_target, cases=chosen.cases, requests=chosen.requests, start=chosen.seed
        )
        print(f"{chosen.cases:,} cases and {chosen.requests:,} mutated requests on {chosen.engine}")
        print(f"seed {chosen.seed}, {time.monotonic() - started:.0f} s")
        print(f"responses to mutated requests: {dict(sorted(statuses.items()))}")
        print(server_target.survives())


if __name__ == "__main__":
    main()
