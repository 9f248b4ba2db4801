"""A run: so many cases of each kind, from one seed."""

from collections import Counter

from schemathesis import GenerationMode

from tests.fuzz.faces import fuzz_graphql, fuzz_rest
from tests.fuzz.raw import fuzz_bytes
from tests.fuzz.target import Target


def fuzz(target: Target, *, cases: int, requests: int, start: int) -> Counter[int]:
    """Send cases, three tenths good and three bad ones by REST, the rest by GraphQL; then bytes."""
    of_rest = cases * 3 // 10
    fuzz_rest(target, GenerationMode.POSITIVE, cases=of_rest, start=start)
    fuzz_rest(target, GenerationMode.NEGATIVE, cases=of_rest, start=start)
    fuzz_graphql(target, cases=cases - 2 * of_rest, start=start)
    return fuzz_bytes(target, requests=requests, start=start)
