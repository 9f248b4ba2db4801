"""Whatever is sent, no answer is a fault or shows what it must not, and the ledger adds up.

The long form: python -m tests.fuzz
"""

from collections.abc import Iterator

import pytest

from tests.fuzz.raw import fuzz_bytes
from tests.fuzz.runs import fuzz
from tests.fuzz.target import Target, target

# On each engine; 5,000 and 20,000 on both.
CASES = 2_500
REQUESTS = 10_000
SEED = 1


@pytest.fixture(scope="module")
def under_fire(database_url: str) -> Iterator[Target]:
    """Return a server of the tests' own."""
    with target(database_url) as started:
        yield started


@pytest.mark.long
def test_generated_requests_cause_no_fault(under_fire: Target) -> None:
    fuzz(under_fire, cases=CASES, requests=0, start=SEED)

    assert under_fire.survives().adjustments


@pytest.mark.long
def test_mutated_requests_cause_no_fault(under_fire: Target) -> None:
    statuses = fuzz_bytes(under_fire, requests=REQUESTS, start=SEED)

    assert sum(statuses.values()) == REQUESTS
    # They reach every layer: the parser, the doors, the readers and the rules.
    assert {200, 400, 401, 404, 405, 415, 422} <= statuses.keys()
    assert under_fire.survives().adjustments
