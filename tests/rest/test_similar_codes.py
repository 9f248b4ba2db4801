"""A refusal of an unknown code points out one that differs in case or leading zeros."""

from typing import Any, Final

import pytest

from app.errors import Unavailable
from app.reads import similar_codes
from tests.rest.answers import Json, answered
from tests.service import Service, level, new_tenant, sku, warehouse

PATH: Final = "/api/inventory"
STORED: Final = ["Ab-1b", "007", "0", "GRÖSSE", "groß", "x" * 255, "\u0415-1", "a_b%", "0A"]


async def error(service: Service, method: str, path: str, **options: Any) -> Json:
    response = await service.rest(method, f"{PATH}{path}", **options)
    result: Json = response.json()["error"]
    assert result["code"] == "INVENTORY_NOT_FOUND"
    return result


@pytest.fixture
async def stocked(service: Service) -> Service:
    await service.load([], [sku(code) for code in STORED])
    return service


async def test_a_code_in_another_case_or_with_other_zeros_is_named(stocked: Service) -> None:
    cases = {
        "AB-1B": "Ab-1b",
        "ab-1b": "Ab-1b",
        "0Ab-1b": "Ab-1b",
        "7": "007",
        "00007": "007",
        "000": "0",
        "größe": "GRÖSSE",
        "grösse": "GRÖSSE",
        "GROß": "groß",
        "X" * 255: "x" * 255,
        "\u0435-1": "\u0415-1",
        "A_B%": "a_b%",
        "AxB%": None,
        "a": "0A",
        "Ab-1": None,
        "Ab-1b\x00": None,
        " ab-1b": None,
        "\u200bAB-1B": None,
    }
    for code, similar in cases.items():
        body = {"warehouse_id": "wh_1", "quantity": 1, "reason": "cycle_count"}
        for method, suffix, options in [
            ("GET", "", {}),
            ("GET", "/adjustments", {}),
            ("PUT", "", {"json": body}),
        ]:
            segment = "".join(f"%{byte:02X}" for byte in code.encode())
            found = await error(stocked, method, f"/{segment}{suffix}", **options)
            assert found["details"][0].get("similar") == similar, code
            assert found["message"].endswith("leading zeros count.") == (similar is not None)
            if similar:
                assert f"SKU {similar!r} exists" in found["message"]


async def test_items_of_a_request_name_similar_codes(stocked: Service) -> None:
    item = {"warehouse_id": "wh_1", "quantity": 1, "reason": "cycle_count"}
    updates = [{**item, "sku": code} for code in ("7", "nothing", "AB-1B")]

    refused = await error(stocked, "POST", "/bulk", json={"updates": updates})
    messages = [detail["error"]["message"] for detail in refused["details"]]
    hints = ["SKU '007' exists" in messages[0], "exists" in messages[1], "'Ab-1b'" in messages[2]]
    assert hints == [True, False, True]
    assert "SKU '007' exists" in refused["message"]

    body = {"updates": updates, "on_error": "continue"}
    answer = answered(await stocked.rest("POST", f"{PATH}/bulk", json=body))
    assert [result["error"]["message"] for result in answer["data"]] == messages

    lines = [{"sku": "ab-1B", "warehouse_id": "wh_1", "quantity": 1}]
    refused = await error(stocked, "POST", "/reservations", json={"lines": lines})
    assert "SKU 'Ab-1b' exists" in refused["details"][0]["error"]["message"]


async def test_graphql_names_similar_codes(stocked: Service) -> None:
    answer = await stocked.graphql('{ a: sku(sku: "7") { sku } b: sku(sku: "8") { sku } }')
    messages = [each["message"] for each in answer["errors"]]
    assert sorted("'007' exists" in message for message in messages) == [False, True]


async def test_codes_of_another_tenant_are_not_named(stocked: Service) -> None:
    other = Service(
        stocked.app, stocked.client, stocked.database, await new_tenant(stocked.database)
    )
    assert "similar" not in (await error(other, "GET", "/7"))["details"][0]


async def test_a_replayed_refusal_has_the_hint(stocked: Service) -> None:
    main = warehouse()
    await stocked.load([main], [sku("Z", level(main, 1))])
    body = {"warehouse_id": main.id, "quantity": 1, "reason": "cycle_count"}
    first, second = [
        await error(stocked, "PUT", "/z", json=body, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert first["details"] == second["details"] == [{"sku": "z", "similar": "Z"}]
    assert first["message"] == second["message"]


async def test_a_replay_has_no_hint_that_the_first_response_lacked(service: Service) -> None:
    updates = [{"sku": "z", "warehouse_id": "wh_1", "quantity": 1, "reason": "cycle_count"}]
    requests: list[tuple[str, Json]] = [
        ("abort", {"updates": updates}),
        ("continue", {"updates": updates, "on_error": "continue"}),
    ]

    async def responses() -> list[Json]:
        return [
            (
                await service.rest(
                    "POST", f"{PATH}/bulk", json=body, headers={"Idempotency-Key": key}
                )
            ).json()
            for key, body in requests
        ]

    first = await responses()
    await service.data(
        'mutation { createSku(input: {sku: "Z", title: "Z"}) { sku { id } } }', token="admin"
    )
    second = await responses()

    for response in (first[0], second[0]):
        del response["error"]["request_id"]
    assert first == second


async def test_a_failed_look_up_of_similar_codes_fails_no_committed_write(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 1))])
    item = {"warehouse_id": main.id, "delta": 1, "reason": "cycle_count"}
    body = {"updates": [{**item, "sku": code} for code in "AB"], "on_error": "continue"}

    def failing(_dialect: str) -> None:
        message = "The database is away."
        raise Unavailable(message)

    monkeypatch.setattr(similar_codes, "select_similar", failing)
    response = await service.rest("POST", f"{PATH}/bulk", json=body)
    monkeypatch.undo()
    record = answered(await service.rest("GET", f"{PATH}/A"))["data"]

    # A client sends the same bulk again after 503.
    assert (response.status_code, record["total_on_hand"]) == (503, 1)


async def test_a_failed_look_up_of_similar_codes_fails_no_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_dialect: str) -> None:
        message = "The database is away."
        raise Unavailable(message)

    monkeypatch.setattr(similar_codes, "select_similar", failing)

    assert (await error(service, "GET", "/a"))["details"] == [{"sku": "a"}]
