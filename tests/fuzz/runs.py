"""A run of generated and mutated requests from one seed."""

from collections import Counter

from schemathesis import GenerationMode

from tests.fuzz.faces import fuzz_graphql, fuzz_rest
from tests.fuzz.raw import fuzz_bytes
from tests.fuzz.target import Target


def fuzz(target: Target, *, cases: int, requests: int, start: int) -> Counter[int]:
    """Send 30 % valid and 30 % invalid REST cases and 40 % GraphQL cases, then mutated bytes."""
    of_rest = cases * 3 // 10
    fuzz_rest(target, GenerationMode.POSITIVE, cases=of_rest, start=start)
    fuzz_rest(target, GenerationMode.NEGATIVE, cases=of_rest, start=start)
    fuzz_graphql(target, cases=cases - 2 * of_rest, start=start)
    return fuzz_bytes(target, requests=requests, start=start)
