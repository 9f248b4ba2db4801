"""Generated and mutated requests cause no fault, reveal no secret, and keep the ledger valid.

The long form: python -m tests.fuzz
"""

from collections.abc import Iterator

import pytest

from tests.effort import EFFORT
from tests.fuzz.raw import fuzz_bytes
from tests.fuzz.runs import fuzz
from tests.fuzz.target import Target, target

# Per engine. The engines have different seeds, so that no case runs twice.
CASES = 300 * EFFORT
REQUESTS = 1_500 * EFFORT
SEEDS = {"sqlite": 1, "postgresql": 2}


@pytest.fixture(scope="module")
def server_target(database_url: str) -> Iterator[Target]:
    """Start a server for the tests of this module."""
    with target(database_url) as started:
        yield started


@pytest.mark.long
def test_generated_requests_cause_no_fault(server_target: Target, engine: str) -> None:
    fuzz(server_target, cases=CASES, requests=0, start=SEEDS[engine])

    assert server_target.survives().adjustments


@pytest.mark.long
def test_mutated_requests_cause_no_fault(server_target: Target, engine: str) -> None:
    statuses = fuzz_bytes(server_target, requests=REQUESTS, start=SEEDS[engine])

    assert sum(statuses.values()) == REQUESTS
    # The statuses of every layer: HTTP, credentials, routes, content types, parser and rules.
    assert {200, 400, 401, 404, 405, 415, 422} <= statuses.keys()
    assert server_target.survives().adjustments
