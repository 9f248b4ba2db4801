"""Small requests with large results, and the time of their refusal.

python -m tests.security.bombs
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from tests.databases import migrated
from tests.service import Service, new_tenant, running

TOO_COMPLEX: Final = "QUERY_TOO_COMPLEX"
MALFORMED: Final = "MALFORMED_REQUEST"
INVALID: Final = "VALIDATION_ERROR"
TOO_LARGE: Final = "PAYLOAD_TOO_LARGE"
SET: Final = "mutation ($i: SetStockInput!) { setStock(input: $i) { replayed } }"
BULK: Final = "mutation ($u: [StockUpdateInput!]!) { bulkSetStock(input: {updates: $u}) { total } }"
INPUT: Final = '{sku: "A", warehouseId: "wh_1", quantity: 1, reason: "x"}'
ITEM: Final = {"sku": "A", "warehouseId": "wh_1", "quantity": 1, "reason": "x"}


@dataclass(frozen=True, slots=True)
class Bomb:
    """A request, and the code of its refusal; None if it is cheap and answered."""

    name: str
    query: str
    code: str | None
    # Name of the query limit that refuses it.
    limit: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None

    def content(self) -> bytes:
        """Body of the request."""
        if self.body is not None:
            return self.body
        return orjson.dumps({"query": self.query, "variables": self.variables})


def many(times: int, part: Callable[[int], str]) -> str:
    """Repeat a part with its number."""
    return " ".join(map(part, range(times)))


def doubling(times: int, on: str, end: str, join: str = "...F{i} ...F{i}") -> str:
    """Fragments of which each spreads the next twice."""
    parts = [f"fragment F{i} on {on} {{ {join.format(i=i + 1)} }}" for i in range(times)]
    return " ".join([*parts, f"fragment F{times} on {on} {{ {end} }}"])


def nested(times: int, opened: str, middle: str, closed: str) -> str:
    """Nest a part: opening texts, the middle, closing texts."""
    return opened * times + middle + closed * times


NEST: Final = "a: stock { sku { ...F{i} } } b: stock { sku { ...F{i} } }".replace(
    "{ sku { ...F{i} } }", "{{ sku {{ ...F{i} }} }}"
)
PAGES: Final = "warehouses { stock(first: 200) { nodes { sku { "
BOMBS: Final = (
    Bomb("fragments doubled", f"{{ sku(sku: \"A\") {{ ...F0 }} }} {doubling(60, 'Sku', 'id')}", TOO_COMPLEX, "fields"),
    Bomb("fragments doubled under fields", f"{{ sku(sku: \"A\") {{ ...F0 }} }} {doubling(12, 'Sku', 'id', NEST)}", TOO_COMPLEX, "fields"),
    Bomb("doubled fragments that are not spread", f"{{ __typename }} {doubling(60, 'Sku', 'id')}", TOO_COMPLEX, "fields"),
    Bomb("a fragment in itself", "{ ...F } fragment F on Query { ...F }", INVALID),
    Bomb("a ring of fragments", f"{{ ...F0 }} {many(50, lambda i: f'fragment F{i} on Query {{ ...F{(i + 1) % 50} }}')}", INVALID),
    Bomb("a ring under fields", '{ sku(sku: "A") { ...A } } fragment A on Sku { stock { ...B } } fragment B on StockLevel { sku { ...A } }', INVALID),
    Bomb("a long chain of fragments", f"{{ skus {{ nodes {{ ...F0 }} }} }} {doubling(120, 'Sku', 'id', '...F{i}')}", None),
    Bomb("unused fragments", f"{{ __typename }} {many(120, lambda i: f'fragment F{i} on Sku {{ id }}')}", INVALID),
    Bomb("10,000 aliases", f"{{ {many(10_000, lambda i: f'a{i}: __typename')} }}", TOO_COMPLEX, "length"),
    Bomb("300 aliases", f"{{ {many(300, lambda i: f'a{i}: __typename')} }}", TOO_COMPLEX, "root_fields"),
    Bomb("300 aliases of one SKU", f"{{ sku(sku: \"A\") {{ {many(300, lambda i: f'a{i}: id')} }} }}", TOO_COMPLEX, "aliases"),
    Bomb("100 lists", f"{{ {many(100, lambda i: f'a{i}: skus {{ totalCount }}')} }}", TOO_COMPLEX, "root_fields"),
    Bomb("10,000 mutations", f"mutation {{ {many(10_000, lambda i: f'a{i}: setStock(input: {INPUT}) {{ replayed }}')} }}", TOO_COMPLEX, "length"),
    Bomb("30 mutations", f"mutation {{ {many(30, lambda i: f'a{i}: setStock(input: {INPUT}) {{ replayed }}')} }}", TOO_COMPLEX, "mutations"),
    Bomb("mutations in fragments", f"mutation {{ ...F0 }} {doubling(4, 'Mutation', f'a: setStock(input: {INPUT}) {{ replayed }}')}", TOO_COMPLEX, "mutations"),
    Bomb("a flood of directives", f"{{ __typename {'@skip(if: false) ' * 140} }}", TOO_COMPLEX, "directives"),
    Bomb("a flood of unknown directives", f"{{ __typename {'@x ' * 400} }}", TOO_COMPLEX, "directives"),
    Bomb("a flood of directives on variables", f"query ($a: ID {'@x ' * 400}) {{ __typename }}", TOO_COMPLEX, "directives"),
    Bomb("directives in fragments", f"{{ sku(sku: \"A\") {{ ...F0 }} }} {doubling(6, 'Sku', 'id @skip(if: false)')}", TOO_COMPLEX, "directives"),
    Bomb("one field 900 times", f"{{ {'__typename ' * 900} }}", TOO_COMPLEX, "root_fields"),
    Bomb("overlapping fields", f"{{ sku(sku: \"A\") {{ {'stock { id } ' * 200} }} }}", TOO_COMPLEX, "repeats"),
    Bomb("overlapping fields below each other", f"{{ sku(sku: \"A\") {{ {nested(8, 'stock { sku { id } } stock { sku { ', 'id', ' } }') * 3} }} }}", TOO_COMPLEX, "cost"),
    Bomb("overlapping fragments", f"{{ sku(sku: \"A\") {{ {many(100, lambda i: f'...F{i}')} }} }} {many(100, lambda i: f'fragment F{i} on Sku {{ id }}')}", TOO_COMPLEX, "repeats"),
    Bomb("overlapping inline fragments", f"{{ sku(sku: \"A\") {{ {'... { stock { id } } ' * 100} }} }}", TOO_COMPLEX, "repeats"),
    Bomb("forty levels", f"{{ sku(sku: \"A\") {{ {nested(20, 'stock { sku { ', 'id', ' } }')} }} }}", TOO_COMPLEX, "depth"),
    Bomb("two hundred levels", f"{{ sku(sku: \"A\") {{ {nested(100, 'stock { sku { ', 'id', ' } }')} }} }}", MALFORMED),
    Bomb("a deep list literal", f"{{ sku(sku: {nested(450, '[', '', ']')}) {{ id }} }}", MALFORMED),
    Bomb("a deep object literal", f"{{ skus(filter: {nested(200, '{sku: ', '1', '}')}) {{ totalCount }} }}", MALFORMED),
    Bomb("a deep type of a variable", f"query ($a: {nested(450, '[', 'ID', ']')}) {{ __typename }}", MALFORMED),
    Bomb("a product of pages", f"{{ {PAGES} stock {{ warehouse {{ stock(first: 200) {{ nodes {{ id }} }} }} }} }} }} }} }} }}", TOO_COMPLEX, "cost"),
    Bomb("a product of pages in variables", "query ($n: Int! = 1) { skus(first: $n) { nodes { adjustments(first: $n) { nodes { id sku { adjustments(first: $n) { nodes { id } } } } } } } }", TOO_COMPLEX, "cost", {"n": 200}),
    Bomb("a product of pages by default", "{ skus { nodes { adjustments { nodes { sku { adjustments { nodes { id delta reason } } } } } } } }", TOO_COMPLEX, "cost"),
    Bomb("a giant page in a giant page", "{ skus(first: 1000000) { nodes { adjustments(first: 1000000) { edges { node { id sku { id title } delta reason } } } } } }", TOO_COMPLEX, "cost"),
    Bomb("a product of histories", 'query ($i: StockInterval!) { skus(first: 200) { nodes { stockHistory(from: "2026-01-01", to: "2026-01-31", interval: $i) { start opening closing } } } }', TOO_COMPLEX, "cost", {"i": "HOUR"}),
    Bomb("types of fields of types", "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }", INVALID),
    Bomb("types of fields in fragments", "{ __schema { types { ...A } } } fragment A on __Type { fields { type { ...B } } } fragment B on __Type { fields { type { ...C } } } fragment C on __Type { fields { name } }", INVALID),
    Bomb("forty times the wrapped type", f"{{ __schema {{ types {{ {nested(40, 'ofType { ', 'name', ' }')} }} }} }}", TOO_COMPLEX, "depth"),
    Bomb("the schema fifty times over", f"{{ {many(60, lambda i: f'a{i}: __schema {{ types {{ name }} }}')} }}", TOO_COMPLEX, "root_fields"),
    Bomb("many operations", f"{many(200, lambda i: f'query Q{i} {{ __typename }}')}", INVALID),
    Bomb("many operations of many fragments", f"{many(40, lambda i: f'query Q{i} {{ ...R }}')} fragment R on Query {{ sku(sku: \"A\") {{ ...F0 }} }} {doubling(60, 'Sku', 'id', '...F{i}')}", TOO_COMPLEX, "fields"),
    Bomb("a flood of variables", f"query ({many(230, lambda i: f'$v{i}: ID')}) {{ __typename }}", INVALID),
    Bomb("a flood of unknown fields", f"{{ sku(sku: \"A\") {{ {many(900, lambda i: f'stok{i}')} }} }}", INVALID),
    Bomb("a flood of unknown arguments", f"{{ skus({many(300, lambda i: f'frist{i}: 1')}) {{ totalCount }} }}", INVALID),
    Bomb("a huge string", f'{{ sku(sku: "{"x" * 3_000_000}") {{ id }} }}', TOO_COMPLEX, "length"),
    Bomb("a huge block string", '{ sku(sku: """' + "  x\n" * 700_000 + '""") { id } }', TOO_COMPLEX, "length"),
    Bomb("a huge number", f"{{ skus(first: {'9' * 3_000_000}) {{ totalCount }} }}", TOO_COMPLEX, "length"),
    Bomb("a number of 40,000 digits", f"{{ skus(first: {'9' * 40_000}) {{ totalCount }} }}", INVALID),
    Bomb("a flood of line breaks", "\n" * 1_900_000 + "{", TOO_COMPLEX, "length"),
    Bomb("a huge name", "{ " + "a" * 3_500_000 + " }", TOO_COMPLEX, "length"),
    Bomb("a flood of tokens", "{ " + "a " * 20_000 + "}", MALFORMED),
    Bomb("a list of a million", BULK, TOO_LARGE, body=b'{"query": "%b", "variables": {"u": [%b]}}' % (BULK.encode(), b",".join([b"{}"] * 1_000_000))),
    Bomb("a list of 5,000", BULK, INVALID, variables={"u": [ITEM] * 4_900}),
    Bomb("a list of 1,000 empty objects", BULK, INVALID, variables={"u": [{}] * 1_000}),
    Bomb("variables in variables", SET, MALFORMED, body=b'{"query": "%b", "variables": {"i": %b}}' % (SET.encode(), b'{"i":' * 90 + b"1" + b"}" * 90)),
    Bomb("a deep list in variables", SET, MALFORMED, body=b'{"query": "%b", "variables": {"i": %b}}' % (SET.encode(), b"[" * 100_000 + b"]" * 100_000)),
    Bomb("a number of four million digits", SET, MALFORMED, body=b'{"query": "%b", "variables": {"i": %b}}' % (SET.encode(), b"9" * 3_900_000)),
    Bomb("many undeclared variables", "{ __typename }", TOO_LARGE, variables={f"v{i}": i for i in range(200_000)}),
    Bomb("a huge note", SET, INVALID, variables={"i": {**ITEM, "note": "x" * 3_900_000}}),
)  # fmt: skip


async def code_of(service: Service, bomb: Bomb) -> tuple[str | None, dict[str, Any] | None]:
    """Code of the refusal, and the first of its details."""
    return await _sent(service, bomb.content())


async def _sent(service: Service, content: bytes) -> tuple[str | None, dict[str, Any] | None]:
    headers = {"Content-Type": "application/json"}
    answer = await service.rest("POST", "/graphql", content=content, headers=headers)
    errors = answer.json().get("errors")
    if not errors:
        return None, None
    facts = errors[0]["extensions"]
    return facts["code"], next(iter(facts.get("details", ())), None)


async def measure(database_url: str, rounds: int) -> dict[str, float]:
    """Median milliseconds of each bomb, without caches."""
    times: dict[str, float] = {}
    async with running(database_url) as (app, client):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        for bomb in BOMBS:
            taken = []
            for number in range(rounds):
                # A new text each time, so that no cached document is used.
                content = replace(bomb, query=f"{bomb.query} #{number}").content()
                started = time.perf_counter()
                await _sent(service, content)
                taken.append((time.perf_counter() - started) * 1_000)
            times[bomb.name] = statistics.median(taken)
    return times


def main() -> None:
    """Print the times, the longest last."""
    with tempfile.TemporaryDirectory(prefix="inventory-bombs-") as directory:
        url = migrated(f"sqlite+aiosqlite:///{Path(directory) / 'inventory.db'}")
        times = asyncio.run(measure(url, rounds=5))
    for name, milliseconds in sorted(times.items(), key=lambda pair: pair[1]):
        print(f"{milliseconds:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
