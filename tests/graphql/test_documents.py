"""The cache of parsed documents: limits, and isolation of requests."""

import asyncio
import contextlib
import gc
import tracemalloc
from typing import Final

import pytest
from graphql import GraphQLObjectType, GraphQLOutputType, get_named_type, parse

from app.errors import InventoryError
from app.graphql import documents as execution
from app.graphql.documents import (
    DocumentRules,
    Documents,
    _prepare,
    document_bytes,
    prepared_operations,
)
from app.graphql.limits import CACHED_COSTS, check_document
from app.graphql.schema.schema import schema
from app.settings import Settings
from rest_shim.endpoint import OPERATIONS
from tests.graphql.test_statements import DOCUMENTS
from tests.service import Service, level, sku, warehouse

RULES: Final = DocumentRules.of(Settings())
SELECTED: Final = "{{ skus {{ nodes {{ {} }} }} }}"
HOSTILE: Final = {
    "ordinary": "{ skus { nodes { sku } } }",
    "a comment": "{ __typename } #" + "x" * 49_000,
    "a wide comment": "{ __typename } #" + "\N{PACKAGE}" * 49_000,
    "comments": "{ __typename }" + "#\n" * 24_000,
    "aliases": "{{ skus {{ nodes {{ {} }} }} }}".format(
        " ".join(f"a{n}: title" for n in range(190))
    ),
    "unknown fields": "{{ skus {{ nodes {{ {} }} }} }}".format(
        " ".join(f"x{n}" for n in range(900))
    ),
    "variables": "query ({}) {{ {} }}".format(
        " ".join(f"$v{n}: Int!" for n in range(45)),
        " ".join(f"a{n}: skus(first: $v{n}) {{ totalCount }}" for n in range(45)),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_memory_of_a_document_is_at_most_its_counted_size(name: str) -> None:
    text = HOSTILE[name]
    _prepare(text, rules=RULES)
    gc.collect()
    tracemalloc.start()
    kept = [(each, _prepare(each, rules=RULES)) for each in (f"{text} #{n}" for n in range(5))]
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken <= sum(document_bytes(text, prepared) for text, prepared in kept)


def test_document_cache_is_limited_in_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "CACHED_BYTES", 4 * 2**20)
    documents = Documents(RULES, capacity=50)
    for number in range(120):
        documents.operation(f"{{ a{number}: __typename }}")
    assert len(documents) == 50
    assert documents.bytes <= 4 * 2**20

    for number in range(40):
        for text in HOSTILE.values():
            with contextlib.suppress(InventoryError):
                documents.operation(f"{text} #{number}")
            assert documents.bytes <= 4 * 2**20
    assert documents.bytes == sum(size for _, size in documents._cache.values())
    assert 0 < len(documents) < 50


def test_recently_used_document_stays_in_the_cache() -> None:
    documents = Documents(RULES, capacity=3)
    first = documents.operation("{ first: __typename }")
    for number in range(9):
        documents.operation(f"{{ a{number}: __typename }}")
        assert documents.operation("{ first: __typename }") is first


def test_cost_cache_of_an_operation_is_limited() -> None:
    [operation] = prepared_operations(
        "query ($n: Int!, $a: Int) { skus(first: $n) { nodes { sku } } b: skus(first: $a) "
        "{ totalCount } }"
    ).values()
    for number in range(400):
        operation.costs.cost({"n": number % 200, "a": number % 7, "x": "y" * 40})
        assert len(operation.costs._cache) <= CACHED_COSTS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_only_documents_with_one_statement_are_marked_single(
    name: str,
) -> None:
    query, expected = DOCUMENTS[name]
    [operation] = prepared_operations(query).values()

    # The opposite need not hold: three root fields always run in a transaction.
    assert operation.single is None or expected == 1


async def test_reads_of_one_sku_and_of_a_list_are_single_statements() -> None:
    operations = prepared_operations(OPERATIONS)
    cases: list[tuple[str | None, dict[str, object], bool]] = [
        ("GetInventory", {"sku": "A"}, True),
        ("ListInventory", {}, True),
        ("ListInventory", {"status": "LOW"}, True),
        ("ListInventory", {"sort": "UPDATED_DESC"}, True),
        ("ListInventory", {"updated_since": "2026-03-12"}, False),
        ("ListInventory", {"q": "red"}, False),
        ("ListWarehouseInventory", {"warehouse_id": "wh_1"}, False),
        ("ListWarehouses", {}, True),
        ("ListAdjustments", {"sku": "A"}, False),
        ("SetStock", {"sku": "A"}, False),
    ]
    for name, variables, expected in cases:
        single = operations[name].single
        assert (single is not None and single.holds(variables)) is expected, name


async def test_unknown_sku_does_not_affect_concurrent_reads_of_the_same_document(
    service: Service,
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    path = "/api/inventory/{}/adjustments?limit=5"

    for _ in range(3):
        answers = await asyncio.gather(
            *(service.rest("GET", path.format(code)) for code in ["NOPE", *["A"] * 8] * 2)
        )
        assert [it.status_code for it in answers] == [404, *[200] * 8] * 2


@pytest.mark.parametrize("text", ["{", "{ unknown }", "{ a: skus { nodes { sku } } " * 40])
def test_a_cached_refusal_keeps_nothing_of_the_requests_that_it_refused(text: str) -> None:
    documents = Documents(RULES)
    for _ in range(2):
        with pytest.raises(InventoryError):
            documents.operation(text)
    [(cached, _)] = documents._cache.values()
    assert isinstance(cached, InventoryError)
    assert cached.__traceback__ is None


def _every_field(type_: GraphQLOutputType) -> str:
    named = get_named_type(type_)
    if not isinstance(named, GraphQLObjectType):
        return ""
    fields = (f"{name} {_every_field(field.type)}" for name, field in named.fields.items())
    return f"{{ {' '.join(fields)} }}"


def test_a_subscription_may_select_every_field_of_a_change() -> None:
    fields = _every_field(schema._schema.type_map["Change"])  # type: ignore[arg-type]
    assert fields.count("externalIds") == 2
    document = parse(f"subscription {{ changes {fields} }}")
    check_document(schema._schema, document, RULES.limits)
