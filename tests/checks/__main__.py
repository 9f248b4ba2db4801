"""Checks of the service on a database: python -m tests.checks --database-url URL."""

import argparse
import asyncio
import sys

from tests.checks.driver import check_database


def main() -> None:
    """Run the checks, print what failed, and exit non-zero if anything did."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.checks",
        description="Migrate a database, and check every route, mutation and read on it, in new "
        "tenants that stay.",
    )
    parser.add_argument("--database-url", required=True)
    parser.add_argument(
        "--requests", type=int, default=0, help="Number of concurrent requests after the checks."
    )
    parser.add_argument("--clients", type=int, default=8, help="Clients that send them.")
    chosen = parser.parse_args()
    findings = asyncio.run(
        check_database(chosen.database_url, requests=chosen.requests, clients=chosen.clients)
    )
    if findings.statuses:
        print(f"answers to concurrent requests: {dict(sorted(findings.statuses.items()))}")
    for name, error in findings.failed.items():
        print(f"failed: {name}: {error[:500]}")
    print(f"{findings.passed} checks passed, {len(findings.failed)} failed")
    sys.exit(bool(findings.failed))


if __name__ == "__main__":
    main()
