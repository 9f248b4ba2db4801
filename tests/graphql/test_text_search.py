"""SKUs are found by the beginnings of the words of their code and title."""

import re
import unicodedata
from collections.abc import Iterator
from math import ceil
from typing import Any, Final

import pytest
from sqlalchemy import literal_column, text

from app.database.tables import sku_word
from app.ledger import repair
from app.ledger.repair import repair_tenant
from app.ledger.replay import LedgerBroken
from app.ledger.verification import verify_tenant
from app.reads import sku_words
from tests.engines import transact
from tests.graphql.answers import Json, refused, walk
from tests.rest.answers import answered, refused_fields
from tests.rest.answers import walk as walk_rest
from tests.service import Service, level, new_tenant, sku, warehouse
from tests.statements import watched

QUERY: Final = (
    "query ($filter: SkuFilterInput, $order: SkuOrder! = SKU_ASC, $first: Int!, $after: String) "
    "{ skus(filter: $filter, orderBy: $order, first: $first, after: $after) { nodes { sku } "
    "edges { cursor node { sku } } totalCount "
    "pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"
)
COUNT: Final = "query ($text: String) { skus(filter: {text: $text}) { totalCount } }"
MAIN: Final = warehouse()
TITLES: Final = {
    "A-1": "Red Tee, size XL",
    "A-2": "red teapot",
    "B_2": "Predator figure",
    "RED": "Tee",
    "Größe": "STRASSE straße",
    "É1": "Cafe\u0301 noir",
    "हिन्दी": "चाय की पत्ती",
    "日本": "緑茶 100g",
    "W" * 100: "Wide",
    "tee-red": "\N{PACKAGE} _under_score_",
    "TR": "İstanbul",
    "EMOJI": "\u26a1\ufe0fFast charger",
}
TEXTS: Final = {
    "red tee": {"A-1", "RED", "tee-red"},
    "TEE RED": {"A-1", "RED", "tee-red"},
    "teap": {"A-2"},
    "ed": set(),
    "a": {"A-1", "A-2"},
    "a-1": {"A-1"},
    "a 2": {"A-2"},
    "2": {"A-2", "B_2"},
    "strasse": {"Größe"},
    "STRAß": {"Größe"},
    "GRÖ": {"Größe"},
    "gro\u0308ss": {"Größe"},
    "caf\u00e9": {"É1"},
    "cafe": set(),
    "हि": {"हिन्दी"},
    "न्दी": set(),
    "緑": {"日本"},
    "茶": set(),
    "w" * 64: {"W" * 100},
    "under SCORE": {"tee-red"},
    "%": None,
    "": None,
    " \t": None,
    "\N{PACKAGE}": None,
    "x" * 65: set(),
    "w" * 100: {"W" * 100},
    "w" * 101: {"W" * 100},
    "istanbul": {"TR"},
    "fast": {"EMOJI"},
    "\u2764\ufe0f": None,
    "İSTANBUL": {"TR"},
    "a b c d e f g h i": None,
    "a " * 501: None,
    "\x00": None,
    "red\x00tee": {"A-1", "RED", "tee-red"},
    "\ud7ff": None,
}


@pytest.fixture
async def shop(service: Service) -> Service:
    skus = [
        sku(code, level(MAIN, number), title=title)
        for number, (code, title) in enumerate(TITLES.items())
    ]
    await service.load([MAIN], skus)
    return service


async def found(service: Service, search: str, **filter_: object) -> set[str]:
    data = await service.data(QUERY, {"filter": {"text": search, **filter_}, "first": 200})
    assert data["skus"]["totalCount"] == len(data["skus"]["nodes"])
    return {node["sku"] for node in data["skus"]["nodes"]}


async def test_each_word_of_the_text_begins_a_word_of_the_sku(shop: Service) -> None:
    for search, expected in TEXTS.items():
        if expected is None:
            assert await refused(shop, COUNT, {"text": search}) == (422, "VALIDATION_ERROR"), search
            response = await shop.rest("GET", "/api/inventory", params={"q": search})
            assert refused_fields(response) == ["q"]
            continue
        normalized = {unicodedata.normalize("NFC", code) for code in expected}
        assert await found(shop, search) == normalized, search
        records, totals = await walk_rest(shop, "/api/inventory", limit=2, q=search)
        assert {record["sku"] for record in records} == normalized
        assert set(totals) == {len(expected)}


@pytest.mark.parametrize("order", ["SKU_ASC", "SKU_DESC", "AVAILABLE_DESC", "UPDATED_ASC"])
@pytest.mark.parametrize("first", [1, 3])
async def test_found_skus_are_paged_in_every_order(shop: Service, order: str, first: int) -> None:
    whole = await walk(shop, QUERY, ["skus"], {"order": order}, first=200)
    nodes = await walk(
        shop, QUERY, ["skus"], {"order": order, "filter": {"text": "t R"}}, first=first
    )
    codes = {"A-1", "A-2", "RED", "tee-red"}
    assert nodes == [node for node in whole if node["sku"] in codes]


async def test_the_text_is_combined_with_the_other_filters(shop: Service) -> None:
    assert await found(shop, "red", codePrefix="A") == {"A-1", "A-2"}
    assert await found(shop, "red", sku="A-2") == {"A-2"}
    assert await found(shop, "red", statusIn=["OUT_OF_STOCK"]) == {"A-1"}
    assert await found(shop, "red", warehouseId=MAIN.id, updatedSince="2020-01-01") == {
        *("A-1", "A-2", "RED", "tee-red")
    }
    assert await found(shop, "red", updatedSince="2099-01-01") == set()
    archive = 'mutation { archiveSku(input: {sku: "A-1"}) { sku { id } } }'
    await shop.data(archive, token="admin")
    assert await found(shop, "red", codePrefix="A") == {"A-2"}
    assert await found(shop, "red", archived=True) == {"A-1"}


async def test_a_cursor_is_bound_to_the_text(shop: Service) -> None:
    variables: Json = {"filter": {"text": "red"}, "first": 1}
    page = (await shop.data(QUERY, variables))["skus"]["pageInfo"]
    variables["after"] = page["endCursor"]
    await shop.data(QUERY, variables)
    for filter_ in ({"text": "tee"}, {"text": "red tee"}, {}):
        variables["filter"] = filter_
        assert await refused(shop, QUERY, variables) == (422, "INVALID_CURSOR")


async def test_words_follow_new_titles(shop: Service) -> None:
    create = "mutation ($i: CreateSkuInput!) { createSku(input: $i) { sku { id } } }"
    rename = "mutation ($i: UpdateSkuInput!) { updateSku(input: $i) { sku { id } } }"
    await shop.data(create, {"i": {"sku": "N-1", "title": "Green tea tea"}}, token="admin")
    assert await found(shop, "tea gr") == {"N-1"}
    for title in ("Green cup", "N 1"):
        await shop.data(rename, {"i": {"sku": "N-1", "title": title}}, token="admin")
    assert await found(shop, "green") == set()
    assert await found(shop, "1 n") == {"N-1"}
    body = {"warehouse_id": MAIN.id, "delta": 1, "reason": "loss"}
    answered(await shop.rest("POST", "/api/inventory/N-1/adjustments", json=body))
    await verify_tenant(shop.database, shop.tenant_id)


async def test_skus_of_another_tenant_are_not_found(shop: Service) -> None:
    other = Service(shop.app, shop.client, shop.database, await new_tenant(shop.database))
    await other.load([], [sku("OTHER", title="Red tee")])

    assert await found(other, "red") == {"OTHER"}
    assert "OTHER" not in await found(shop, "red")


@pytest.fixture
def at_most_two_words(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a word frequent if it is the beginning of three words of SKUs."""
    monkeypatch.setattr(sku_words, "MAX_COUNT", 3)
    monkeypatch.setattr(sku_words, "COUNT_LIMIT", literal_column("3"))
    sku_words._codes_with_word.cache_clear()
    yield
    sku_words._codes_with_word.cache_clear()


@pytest.mark.usefixtures("at_most_two_words")
async def test_a_text_of_frequent_words_alone_is_refused(shop: Service) -> None:
    # Four words begin with "red", four with "t", three with "tee"; two with "a", one with "teap".
    assert await found(shop, "a") == {"A-1", "A-2"}
    assert await found(shop, "red teap") == {"A-2"}
    assert await found(shop, "tee red a") == {"A-1"}
    for frequent in ("red", "t", "tee red"):
        assert await refused(shop, COUNT, {"text": frequent}) == (422, "VALIDATION_ERROR")
        response = await shop.rest("GET", "/api/inventory", params={"q": frequent})
        assert refused_fields(response) == ["q"]
    answer = await shop.graphql(
        '{ a: skus(filter: {text: "t"}) { totalCount } '
        'b: skus(filter: {text: "teap"}) { totalCount } }'
    )
    assert answer["data"] == {"a": None, "b": {"totalCount": 1}}


async def test_a_narrower_text_costs_no_more_than_its_words(service: Service) -> None:
    skus = [sku(f"S{n:04d}", title=f"widget {'x' * 400} {n}") for n in range(1_000)]
    await service.load([], [*skus, sku("RED", title="red widget")])

    assert await found(service, "widget red") == {"RED"}
    data = await service.data(COUNT, {"text": "widget xxx"})
    assert data == {"skus": {"totalCount": 1_000}}


async def test_a_word_that_is_stored_already_does_not_refuse_a_new_title(shop: Service) -> None:
    insert = (
        f"INSERT INTO sku_word (tenant_id, word, sku) VALUES ('{shop.tenant_id}', 'new', 'RED')"
    )
    await transact(shop.database, lambda connection: connection.execute(text(insert)))
    rename = "mutation ($i: UpdateSkuInput!) { updateSku(input: $i) { sku { title } } }"

    data = await shop.data(rename, {"i": {"sku": "RED", "title": "New tee"}}, token="admin")

    assert data["updateSku"]["sku"] == {"title": "New tee"}
    assert await found(shop, "new") == {"RED"}


async def test_the_text_cannot_be_combined_with_one_warehouse(shop: Service) -> None:
    params = {"q": "red", "warehouse_id": MAIN.id}
    response = await shop.rest("GET", "/api/inventory", params=params)
    assert refused_fields(response) == ["q"]


async def test_a_title_that_changes_during_a_repair_keeps_its_words(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = text(
        "UPDATE sku_word SET word = 'new' WHERE sku = 'A-1' AND word = 'red'"
        f" AND tenant_id = '{shop.tenant_id}'"
    )
    await transact(shop.database, lambda connection: connection.execute(wrong))
    replace = repair._replace_words

    async def rename_and_replace(*arguments: Any) -> list[str]:
        title = text(
            "UPDATE sku SET title = 'Green cup', version = version + 1 WHERE sku = 'A-1'"
            f" AND tenant_id = '{shop.tenant_id}'"
        )
        await arguments[-1].execute(title)
        word = {"tenant_id": shop.tenant_id, "word": "green", "sku": "A-1"}
        await arguments[-1].insert(sku_word, [word])
        return await replace(*arguments)

    monkeypatch.setattr(repair, "_replace_words", rename_and_replace)
    [message] = await repair_tenant(shop.database, shop.tenant_id)
    assert message.endswith("and are ['1', 'a', 'cup', 'green']")
    await verify_tenant(shop.database, shop.tenant_id)


async def test_words_are_repaired_in_batches(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "REPAIR_BATCH_SKUS", 3)
    all_words = text(f"DELETE FROM sku_word WHERE tenant_id = '{shop.tenant_id}'")
    await transact(shop.database, lambda connection: connection.execute(all_words))
    statements: list[str] = []

    with watched(before=lambda statement, _: statements.append(statement)):
        messages = await repair_tenant(shop.database, shop.tenant_id)

    inserts = [each for each in statements if each.startswith("INSERT INTO sku_word")]
    skus = (await shop.data("{ skus { totalCount } }"))["skus"]["totalCount"]
    assert len(messages) == skus > 3
    assert len(inserts) == ceil(skus / 3)
    await verify_tenant(shop.database, shop.tenant_id)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM sku_word WHERE sku = 'A-1' AND word = 'red'",
        "DELETE FROM sku_word WHERE sku = 'RED'",
        "UPDATE sku_word SET word = 'blue' WHERE sku = 'A-1' AND word = 'red'",
        "UPDATE sku SET title = 'Blue' WHERE sku = 'A-1'",
    ],
)
async def test_wrong_words_are_found_and_repaired(shop: Service, change: str) -> None:
    wrong = text(f"{change} AND tenant_id = '{shop.tenant_id}'")
    await transact(shop.database, lambda connection: connection.execute(wrong))
    code = re.findall("sku = '([^']*)'", change)[-1]

    with pytest.raises(LedgerBroken, match=f"words of SKU {code} is"):
        await verify_tenant(shop.database, shop.tenant_id)
    [message] = await repair_tenant(shop.database, shop.tenant_id)
    assert message.startswith(f"words of SKU {code} were")
    await verify_tenant(shop.database, shop.tenant_id)
