"""Texts with special characters are stored and returned unchanged."""

from tests.service import Service, level, sku, warehouse

TEXTS = [
    '"quoted"',
    "back\\slash",
    "\\u0041",
    "{}[],:",
    "line\nbreak\r\ttab",
    "\x01\x1f\x7f",
    "\u2028\u2029\ufeff",
    "e\u0301",
    "\U0001f4e6",
    "'; --",
    "null",
    "%s %(a)s :x $1 ?",
    "</script>",
]


async def test_titles_and_names_are_returned_unchanged(service: Service) -> None:
    warehouses = [warehouse(text) for text in TEXTS]
    skus = [sku(f"S{i:02}", level(warehouses[i], i)) for i in range(len(TEXTS))]
    await service.load(warehouses, skus)
    for i, text in enumerate(TEXTS):
        await service.data(
            "mutation ($i: UpdateSkuInput!) { updateSku(input: $i) { sku { title } } }",
            {"i": {"sku": f"S{i:02}", "title": text}},
            token="admin",
        )
    data = (await service.rest("GET", "/api/inventory")).json()["data"]
    assert [each["title"] for each in data] == TEXTS
    assert [each["warehouses"][0]["name"] for each in data] == TEXTS
    for i, text in enumerate(TEXTS):
        one = (await service.rest("GET", f"/api/inventory/S{i:02}")).json()["data"]
        assert (one["title"], one["warehouses"][0]["name"]) == (text, text)
