"""A write with an idempotency key takes effect once; repetitions get the same response."""

import asyncio
import zlib
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.session import DriverSession
from app.database.tables import idempotency_key
from app.domain.caller import Caller, Scope
from app.domain.stock import StockUpdate
from app.maintenance import purge_idempotency_keys
from app.writes.idempotency_keys import delete_expired_keys
from app.writes.stock import change_stock
from app.writes.tenants import insert_token
from tests.engines import transact, writer_of
from tests.ledger.rollup import HAS_ME_BLOCKING
from tests.ledger.writes import (
    WRITES,
    Answer,
    Send,
    Update,
    assert_proven,
    entries,
    graphql_bulk,
    graphql_set,
    ledger,
    rest_bulk,
    rest_set,
)
from tests.service import Service, level, new_tenant, now, running, sku, warehouse

COPIES: Final = 8
MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
FIRST: Final = Update("A", MAIN.id, 7, note="first")


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Service whose SKU A has 5 in the main warehouse, and B no stock."""
    await service.load([MAIN, OTHER], [sku("A", level(MAIN, 5)), sku("B")])
    return service


every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@every_write
async def test_a_repeated_write_has_one_effect_and_one_response(
    stocked: Service, write: Send
) -> None:
    answers = [await write(stocked, FIRST, "k") for _ in range(3)]

    assert [answer.replayed for answer in answers] == [False, True, True]
    assert answers[0].code is None
    assert answers[0].body == answers[1].body == answers[2].body
    assert await ledger(stocked, "A") == entries(5, 7)
    await assert_proven(stocked)


@every_write
async def test_a_late_duplicate_does_not_revert_later_writes(stocked: Service, write: Send) -> None:
    first = await write(stocked, FIRST, "k")
    await write(stocked, replace(FIRST, quantity=9))
    late = await write(stocked, FIRST, "k")

    assert late == replace(first, replayed=True)
    assert await ledger(stocked, "A") == entries(5, 7, 9)


@every_write
async def test_without_a_key_every_write_counts(stocked: Service, write: Send) -> None:
    answers = [await write(stocked, FIRST) for _ in range(2)]

    assert not any(answer.replayed for answer in answers)
    assert await ledger(stocked, "A") == entries(5, 7, 7)


@pytest.mark.parametrize(
    "other",
    [
        replace(FIRST, sku="B"),
        replace(FIRST, warehouse_id=OTHER.id),
        replace(FIRST, quantity=8),
        replace(FIRST, reason="loss"),
        replace(FIRST, note="second"),
        replace(FIRST, note=None),
        replace(FIRST, expected=7),
    ],
    ids=["sku", "warehouse", "quantity", "reason", "note", "no note", "expected quantity"],
)
@every_write
async def test_a_key_with_any_changed_input_is_refused(
    stocked: Service, write: Send, other: Update
) -> None:
    await write(stocked, FIRST, "k")
    second = await write(stocked, other, "k")

    assert second.code == "IDEMPOTENCY_KEY_REUSED"
    assert await ledger(stocked, "A") == entries(5, 7)
    assert await ledger(stocked, "B") == []


@pytest.mark.parametrize(
    ("one", "another"),
    [(rest_set, rest_bulk), (graphql_set, graphql_bulk), (rest_bulk, graphql_set)],
)
async def test_a_key_with_another_operation_is_refused(
    stocked: Service, one: Send, another: Send
) -> None:
    await one(stocked, FIRST, "k")

    assert (await another(stocked, FIRST, "k")).code == "IDEMPOTENCY_KEY_REUSED"
    assert await ledger(stocked, "A") == entries(5, 7)


async def test_a_long_outcome_is_stored_compressed_and_replayed_whole(service: Service) -> None:
    codes = [f"SKU-{number}" for number in range(50)]
    await service.load([MAIN], [sku(code) for code in codes])
    updates = [replace(FIRST, sku=code, note="Ä" * 100).rest for code in codes]
    send = partial(
        service.rest,
        "POST",
        "/api/inventory/bulk",
        json={"updates": updates},
        headers={"Idempotency-Key": "k"},
    )
    answers = await asyncio.gather(*(send() for _ in range(COPIES)))
    kept = await _outcome(service)
    # The format before outcomes were compressed.
    plain = zlib.decompress(b64decode(kept)).decode()
    assert len(kept) < len(plain) / 5

    async def work(connection: AsyncConnection) -> None:
        change = "UPDATE idempotency_key SET outcome = :plain WHERE tenant_id = :tenant"
        await connection.execute(text(change), {"plain": plain, "tenant": service.tenant_id})

    await transact(service.database, work)
    answers.append(await send())

    assert {it.status_code for it in answers} == {200}
    assert len({it.content for it in answers}) == 1
    assert sum("Idempotent-Replayed" not in it.headers for it in answers) == 1
    assert await ledger(service, "SKU-7") == [(1, 0, 7)]


async def test_a_bulk_with_another_on_error_is_another_request(stocked: Service) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"updates": [FIRST.rest]}
    codes = []
    for on_error in ("abort", "continue", "abort"):
        response = await stocked.rest(
            "POST",
            "/api/inventory/bulk",
            json={**body, "on_error": on_error},
            headers=headers,
        )
        codes.append(response.status_code)

    assert codes == [200, 422, 200]
    assert await ledger(stocked, "A") == entries(5, 7)


@pytest.mark.parametrize(("one", "another"), [(rest_set, graphql_set), (graphql_bulk, rest_bulk)])
async def test_rest_and_graphql_share_keys(stocked: Service, one: Send, another: Send) -> None:
    first = await one(stocked, FIRST, "k")
    second = await another(stocked, FIRST, "k")

    assert (first.code, first.replayed) == (None, False)
    assert (second.code, second.replayed) == (None, True)
    assert await ledger(stocked, "A") == entries(5, 7)


async def test_the_fingerprint_ignores_json_formatting(stocked: Service) -> None:
    bodies = [
        f'{{"warehouse_id": "{MAIN.id}", "quantity": 7, "reason": "loss"}}',
        f'{{ "reason":"loss",\n"quantity":7.0e0, "warehouse_id":"{MAIN.id}" }}',
        f'{{"warehouse_id": "{MAIN.id}", "quantity": 7, "reason": "l\\u006fss", "note": null}}',
    ]
    responses = [
        await stocked.rest(
            "PUT",
            "/api/inventory/A",
            content=body,
            headers={"Idempotency-Key": "k", "Content-Type": "application/json"},
        )
        for body in bodies
    ]

    accepted = [response for response in responses if response.status_code == 200]
    assert len(accepted) >= 2, [response.text for response in responses]
    assert {response.text for response in accepted} == {responses[0].text}
    assert await ledger(stocked, "A") == entries(5, 7)


async def test_each_token_has_its_own_keys(stocked: Service) -> None:
    second = await _second_token(stocked)
    one = await rest_set(stocked, FIRST, "k")
    another = await rest_set(stocked, replace(FIRST, quantity=8), "k", token=second)

    assert (one.code, another.code) == (None, None)
    assert not another.replayed
    assert await ledger(stocked, "A") == entries(5, 7, 8)


async def test_each_tenant_has_its_own_keys(stocked: Service) -> None:
    stranger = replace(stocked, tenant_id=await new_tenant(stocked.database))
    await stranger.load([MAIN], [sku("A", level(MAIN, 5))])
    await graphql_set(stocked, FIRST, "k")
    other = await graphql_set(stranger, replace(FIRST, quantity=8), "k")

    assert (other.code, other.replayed) == (None, False)
    assert await ledger(stocked, "A") == entries(5, 7)
    assert await ledger(stranger, "A") == entries(5, 8)


REFUSED: Final = {
    "no such SKU": (replace(FIRST, sku="NOPE"), "INVENTORY_NOT_FOUND"),
    "no such warehouse": (replace(FIRST, warehouse_id="wh_nope"), "WAREHOUSE_NOT_FOUND"),
    "a negative quantity": (replace(FIRST, quantity=-1), "NEGATIVE_QUANTITY"),
    "another quantity expected": (replace(FIRST, expected=6), "STALE_VERSION"),
}


@pytest.mark.parametrize(("update", "code"), REFUSED.values(), ids=REFUSED)
@every_write
async def test_a_refusal_is_stored_and_replayed(
    stocked: Service, write: Send, update: Update, code: str
) -> None:
    first = await write(stocked, update, "k")
    await write(stocked, replace(FIRST, quantity=6))
    second = await write(stocked, update, "k")

    assert (first.code, first.replayed) == (code, False)
    assert second == replace(first, replayed=True)
    assert await ledger(stocked, "A") == entries(5, 6)


@pytest.mark.parametrize(
    "broken",
    [
        replace(FIRST, quantity=10**12 + 1),
        replace(FIRST, reason="Not a word"),
        replace(FIRST, note="x" * 1001),
    ],
    ids=["quantity", "reason", "note"],
)
@every_write
async def test_a_malformed_request_does_not_use_the_key(
    stocked: Service, write: Send, broken: Update
) -> None:
    assert (await write(stocked, broken, "k")).code == "VALIDATION_ERROR"
    assert (await write(stocked, FIRST, "k", token="read")).code == "INSUFFICIENT_SCOPE"

    assert (await write(stocked, FIRST, "k")).code is None
    assert await ledger(stocked, "A") == entries(5, 7)


@pytest.mark.parametrize("key", ["", " ", "a b", "a\t", "x" * 256, "\x7f"])
@every_write
async def test_a_key_is_1_to_255_visible_ascii_characters(
    stocked: Service, write: Send, key: str
) -> None:
    answer = await write(stocked, FIRST, key)

    assert answer.code == "VALIDATION_ERROR"
    assert "empotency" in str(answer.body)
    assert await ledger(stocked, "A") == entries(5)


async def test_graphql_refuses_keys_that_no_header_can_hold(stocked: Service) -> None:
    for key in ("ключ", "a\nb", "a\x00b"):
        assert (await graphql_set(stocked, FIRST, key)).code == "VALIDATION_ERROR"
    assert (await graphql_set(stocked, FIRST, "!" * 254 + "~")).code is None


async def test_two_keys_in_one_request_are_refused(stocked: Service) -> None:
    response = await stocked.client.put(
        "/api/inventory/A",
        json={"warehouse_id": MAIN.id, "quantity": 7, "reason": "loss"},
        headers=[
            ("Authorization", f"Bearer {stocked.token('write')}"),
            ("Idempotency-Key", "k"),
            ("Idempotency-Key", "l"),
        ],
    )

    assert response.status_code == 400, response.text
    assert await ledger(stocked, "A") == entries(5)


@pytest.mark.parametrize(("hours", "replays"), [(23.9, True), (24.1, False)])
@every_write
async def test_a_key_is_kept_for_a_day(
    stocked: Service, write: Send, hours: float, *, replays: bool
) -> None:
    await write(stocked, FIRST, "k")
    await _age(stocked, hours)
    second = await write(stocked, FIRST if replays else replace(FIRST, quantity=8), "k")
    third = await write(stocked, FIRST if replays else replace(FIRST, quantity=8), "k")

    assert (second.code, second.replayed) == (None, replays)
    assert third == replace(second, replayed=True)
    assert await ledger(stocked, "A") == (entries(5, 7) if replays else entries(5, 7, 8))


async def test_reaping_deletes_expired_keys(stocked: Service) -> None:
    stranger = replace(stocked, tenant_id=await new_tenant(stocked.database))
    await _keys(stocked, 2_500, hours=25)
    await _keys(stranger, 3, hours=25)
    await _keys(stocked, 4, hours=23)

    assert await delete_expired_keys(stocked.database, stocked.tenant_id) == 2_500
    assert (await _count(stocked), await _count(stranger)) == (4, 3)
    await purge_idempotency_keys(stocked.database)
    assert (await _count(stocked), await _count(stranger)) == (4, 0)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True, scope="session")
async def test_a_key_that_is_used_again_during_a_purge_is_kept(stocked: Service) -> None:
    await _keys(stocked, 1, hours=25)
    async with writer_of(stocked.database).connect() as other:
        await _begin(other, stocked)
        await other.execute(
            update(idempotency_key)
            .where(idempotency_key.c.tenant_id == stocked.tenant_id)
            .values(created_at=now())
        )
        purge = asyncio.create_task(delete_expired_keys(stocked.database, stocked.tenant_id))
        while not await other.scalar(HAS_ME_BLOCKING):
            assert not purge.done()
        await other.commit()
    await purge
    assert await _count(stocked) == 1


async def test_a_running_service_reaps_expired_keys(
    stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _keys(stocked, 3, hours=25)
    monkeypatch.setattr("app.maintenance.PURGE_SECONDS", 0.01)
    url = stocked.database.url.render_as_string(hide_password=False)
    async with (
        running(url) as (app, _client),
        app.router.lifespan_context(app),
        asyncio.timeout(30),
    ):
        while await _count(stocked):
            await asyncio.sleep(0.01)


async def test_a_key_whose_first_request_has_not_ended_is_in_flight(stocked: Service) -> None:
    url = stocked.database.url.render_as_string(hide_password=False)
    update = StockUpdate(sku="A", warehouse_id=MAIN.id, quantity=7, reason="loss")
    content = {"warehouse_id": MAIN.id, "quantity": 7, "reason": "loss"}
    async with running(url, database_lock_timeout_ms=100) as (app, client):
        impatient = replace(stocked, app=app, client=client, database=app.state.database)
        async with writer_of(stocked.database).connect() as first:
            await _begin(first, stocked)
            response = await impatient.rest(
                "PUT", "/api/inventory/A", json=content, headers={"Idempotency-Key": "k"}
            )
            await first.rollback()

        error = response.json()["error"]
        # SQLite has one writer at a time and cannot tell which key is in use.
        if stocked.database.dialect == "sqlite":
            assert (response.status_code, error["code"]) == (503, "UNAVAILABLE")
        else:
            assert (response.status_code, error["code"]) == (409, "IDEMPOTENCY_IN_FLIGHT")
        assert int(response.headers["Retry-After"]) >= 1
        done = await change_stock(
            stocked.database, Caller(stocked.tenant_id, "someone", "a@b.example"), update, key="k"
        )
        assert not done.replayed


@every_write
async def test_concurrent_copies_have_one_effect_and_equal_responses(
    stocked: Service, write: Send
) -> None:
    updates = [replace(FIRST, sku=code, quantity=10 + n) for n in range(20) for code in "AB"]
    copies = [
        write(stocked, update, f"k{number}")
        for _ in range(COPIES)
        for number, update in enumerate(updates)
    ]
    answers = await asyncio.gather(*copies)

    by_key: dict[int, list[Answer]] = {}
    for index, answer in enumerate(answers):
        by_key.setdefault(index % len(updates), []).append(answer)
    for same in by_key.values():
        assert [answer.replayed for answer in same].count(False) == 1
        assert all(answer.code is None for answer in same), same
        assert all(answer.body == same[0].body for answer in same)
    assert len(await ledger(stocked, "A")) == 21
    assert len(await ledger(stocked, "B")) == 20
    await assert_proven(stocked)


async def _second_token(service: Service) -> str:
    token = f"inv_{service.tenant_id}-second"

    async def work(session: DriverSession) -> None:
        await insert_token(
            session,
            service.tenant_id,
            token=token,
            name="second",
            email="second@example.com",
            scopes=[Scope.WRITE],
        )

    await service.database.transaction(work)
    return token


async def _begin(connection: AsyncConnection, service: Service) -> None:
    """Hold the lock of the tenant's lane, as the first request with a key does."""
    lock = " FOR UPDATE" if service.database.dialect == "postgresql" else ""
    statement = text(f"SELECT 1 FROM tenant WHERE tenant_id = :tenant{lock}")
    await connection.execute(statement, {"tenant": service.tenant_id})


async def _age(service: Service, hours: float) -> None:
    """Make the keys of a tenant older."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(
            text("UPDATE idempotency_key SET created_at = :then WHERE tenant_id = :tenant"),
            {"then": _ago(service, hours), "tenant": service.tenant_id},
        )

    await transact(service.database, work)


async def _keys(service: Service, number: int, *, hours: float) -> None:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(
            text(
                "INSERT INTO idempotency_key (tenant_id, subject, key, fingerprint, outcome,"
                " created_at) VALUES (:tenant, :subject, :key, :fingerprint, '', :then)"
            ),
            [
                {
                    "tenant": service.tenant_id,
                    "subject": f"tok_{index % 3}",
                    "key": f"{hours}-{index}",
                    "fingerprint": "",
                    "then": _ago(service, hours),
                }
                for index in range(number)
            ],
        )

    await transact(service.database, work)


async def _outcome(service: Service) -> str:
    async with service.database.snapshot() as snapshot:
        statement = text("SELECT outcome FROM idempotency_key WHERE tenant_id = :tenant")
        [row] = await snapshot.rows(statement, {"tenant": service.tenant_id})
    return str(row[0])


async def _count(service: Service) -> int:
    async with service.database.snapshot() as snapshot:
        rows = await snapshot.rows(
            text("SELECT count(*) FROM idempotency_key WHERE tenant_id = :tenant"),
            {"tenant": service.tenant_id},
        )
    return int(rows[0][0])


def _ago(service: Service, hours: float) -> datetime | str:
    return _instant(service, datetime.now(UTC) - timedelta(hours=hours))


def _instant(service: Service, moment: datetime) -> datetime | str:
    if service.database.dialect == "postgresql":
        return moment
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
