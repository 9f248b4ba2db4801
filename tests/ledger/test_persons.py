"""The ledger names persons by id, and their addresses can be erased without changing it."""

import asyncio
from dataclasses import replace
from typing import Any, Final

import pytest
from sqlalchemy import select

from app.database.schema import METADATA
from app.database.tables import adjustment, idempotency_key, person
from app.domain.caller import Caller, Scope
from app.domain.hash_chain import parse_head
from app.domain.stock import StockUpdate
from app.errors import NotFound, ValidationFailed
from app.ledger.replay import LedgerBroken
from app.ledger.verification import verify_ledger, verify_tenant
from app.writes.persons import erase_person
from app.writes.stock import change_stock
from app.writes.tenants import create_token, revoke_token
from tests.ledger.behind import change_behind_its_back
from tests.ledger.writes import assert_proven
from tests.processes import run
from tests.service import EMAIL, Service, level, new_tenant, running, sku, warehouse

MAIN: Final = warehouse()
ANNA: Final = "anna@example.com"
HISTORY: Final = """
query ($by: String) {
  adjustments(filter: {createdBy: $by}) { totalCount nodes { createdBy } }
  reservations { nodes { createdBy } }
}
"""
RESERVE: Final = """
mutation ($input: ReserveStockInput!) { reserveStock(input: $input) { reservation { createdBy } } }
"""


@pytest.fixture
async def shop(service: Service) -> Service:
    """Tenant with a SKU."""
    await service.load([MAIN], [sku("A", level(MAIN, 5))])
    return service


async def count_by(shop: Service, email: str, quantity: int, *, key: str | None = None) -> None:
    caller = Caller(shop.tenant_id, f"tok_{email}", email)
    update = StockUpdate(sku="A", warehouse_id=MAIN.id, quantity=quantity, reason="loss")
    await change_stock(shop.database, caller, update, key=key)


async def authors(shop: Service, by: str | None = None) -> list[str]:
    """Return the authors of the history, newest first."""
    data = await shop.data(HISTORY, {"by": by})
    names = [node["createdBy"] for node in data["adjustments"]["nodes"]]
    assert data["adjustments"]["totalCount"] == len(names)
    return names


async def everything(shop: Service) -> str:
    """Return all rows of the database as text, but for stored outcomes."""
    rows: list[Any] = []
    async with shop.database.snapshot() as snapshot:
        for table in METADATA.tables.values():
            if table is not idempotency_key:
                of_tenant = table.c.tenant_id == shop.tenant_id
                rows += await snapshot.rows(select(table).where(of_tenant), {})
    return repr([tuple(row) for row in rows])


async def test_an_erased_person_is_named_nowhere_and_the_ledger_holds(shop: Service) -> None:
    await count_by(shop, ANNA, 6)
    await count_by(shop, EMAIL, 7)
    line = {"sku": "A", "warehouseId": MAIN.id, "quantity": 1}
    token = await create_token(
        shop.database, shop.tenant_id, name="Anna's", email=ANNA, scopes=[Scope.WRITE]
    )
    reserved = await shop.data(RESERVE, {"input": {"lines": [line]}}, token=token.token)
    assert reserved["reserveStock"]["reservation"] == {"createdBy": ANNA}
    await revoke_token(shop.database, shop.tenant_id, token.id)
    head = parse_head((await verify_tenant(shop.database, shop.tenant_id)).head)
    assert await authors(shop) == [EMAIL, ANNA, EMAIL]
    assert await authors(shop, ANNA) == [ANNA]
    assert ANNA in await everything(shop)

    await erase_person(shop.database, shop.tenant_id, ANNA)

    assert "anna" not in (await everything(shop)).lower()
    assert await authors(shop) == [EMAIL, "erased", EMAIL]
    assert await authors(shop, ANNA) == []
    history = (await shop.rest("GET", "/api/inventory/A/adjustments")).json()["data"]
    assert [entry["created_by"] for entry in history] == [EMAIL, "erased", EMAIL]
    data = await shop.data(HISTORY)
    assert data["reservations"]["nodes"] == [{"createdBy": "erased"}]
    await verify_tenant(shop.database, shop.tenant_id, head=head)
    await assert_proven(shop)


async def test_an_erased_person_who_writes_again_is_a_new_person(shop: Service) -> None:
    await count_by(shop, ANNA, 6)
    await erase_person(shop.database, shop.tenant_id, ANNA)
    await count_by(shop, ANNA, 7)

    assert await authors(shop) == [ANNA, "erased", EMAIL]
    assert await authors(shop, ANNA) == [ANNA]


async def test_writes_of_one_address_are_of_one_person(shop: Service) -> None:
    await asyncio.gather(*(count_by(shop, ANNA, number) for number in range(10)))
    await asyncio.gather(*(count_by(shop, f"{number}@x", number) for number in range(10)))

    of_tenant = person.c.tenant_id == shop.tenant_id
    async with shop.database.snapshot() as snapshot:
        rows = await snapshot.rows(select(person.c.email).where(of_tenant), {})
    expected = sorted([EMAIL, ANNA, *(f"{number}@x" for number in range(10))])
    assert sorted(row.email for row in rows) == expected


async def test_an_address_has_one_spelling(shop: Service) -> None:
    token = await create_token(
        shop.database, shop.tenant_id, name="Anna's", email="Anna@Example.com", scopes=[Scope.WRITE]
    )
    line = {"sku": "A", "warehouseId": MAIN.id, "quantity": 1}
    reserved = await shop.data(RESERVE, {"input": {"lines": [line]}}, token=token.token)
    assert reserved["reserveStock"]["reservation"] == {"createdBy": ANNA}
    await count_by(shop, ANNA, 6)
    assert await authors(shop, "ANNA@example.com") == [ANNA]
    await revoke_token(shop.database, shop.tenant_id, token.id)

    await erase_person(shop.database, shop.tenant_id, "anna@EXAMPLE.com")

    assert "anna" not in (await everything(shop)).lower()


AUTHOR_BREAKS: Final = {
    "another address": "UPDATE person SET email = 'eve@example.com' WHERE {anna}",
    "another salt": "UPDATE person SET salt = 'x' WHERE {anna}",
    "an address without its salt": "UPDATE person SET salt = NULL WHERE {anna}",
    "a missing person": "DELETE FROM person WHERE {anna}",
}


@pytest.mark.parametrize("what", AUTHOR_BREAKS)
async def test_a_changed_or_missing_author_is_found(shop: Service, what: str) -> None:
    await count_by(shop, ANNA, 6)
    await assert_proven(shop)
    anna = f"tenant_id = '{shop.tenant_id}' AND email = '{ANNA}'"
    await change_behind_its_back(shop, AUTHOR_BREAKS[what].format(anna=anna))

    for verify in (verify_tenant, verify_ledger):
        with pytest.raises(LedgerBroken, match="person"):
            await verify(shop.database, shop.tenant_id)


async def test_the_author_of_a_reservation_must_exist(shop: Service) -> None:
    line = {"sku": "A", "warehouseId": MAIN.id, "quantity": 1}
    await shop.data(RESERVE, {"input": {"lines": [line]}})
    statement = f"UPDATE reservation SET created_by = 'x' WHERE tenant_id = '{shop.tenant_id}'"
    await change_behind_its_back(shop, statement)

    with pytest.raises(LedgerBroken, match=r"reservation .* is by x, who is not among the persons"):
        await verify_tenant(shop.database, shop.tenant_id)


async def test_the_owner_of_a_valid_token_is_not_erased(shop: Service) -> None:
    await count_by(shop, ANNA, 6)
    token = await create_token(
        shop.database, shop.tenant_id, name="Anna's", email=ANNA, scopes=[Scope.READ]
    )
    with pytest.raises(ValidationFailed, match=f"`inventory token revoke .* {token.id}`"):
        await erase_person(shop.database, shop.tenant_id, ANNA)

    assert await authors(shop, ANNA) == [ANNA]


async def test_an_unknown_address_is_refused_and_other_tenants_are_untouched(
    shop: Service,
) -> None:
    await count_by(shop, ANNA, 6)
    other = replace(shop, tenant_id=await new_tenant(shop.database))
    with pytest.raises(NotFound, match=f"knows no person with the e-mail address '{ANNA}'"):
        await erase_person(shop.database, other.tenant_id, ANNA)

    assert await authors(shop, ANNA) == [ANNA]


async def test_the_ledger_stores_no_address(shop: Service) -> None:
    await count_by(shop, ANNA, 6)
    async with shop.database.snapshot() as snapshot:
        rows = await snapshot.rows(select(adjustment), {})

    assert "@" not in repr([tuple(row) for row in rows])


async def test_the_command_erases_a_person(own_database_url: str) -> None:
    async with running(own_database_url) as (app, client):
        database = app.state.database
        shop = Service(app, client, database, await new_tenant(database))
        await shop.load([MAIN], [sku("A", level(MAIN, 5))])
        await count_by(shop, ANNA, 6)

        async def erase(email: str) -> Any:
            command = ("person", "erase", shop.tenant_id, email)
            return await asyncio.to_thread(run, *command, database_url=own_database_url)

        done = await erase(ANNA)
        again = await erase(ANNA)
        assert await authors(shop) == ["erased", EMAIL]

    assert (done.returncode, done.stdout) == (0, f"Erased {ANNA} from {shop.tenant_id}.\n")
    assert (again.returncode, again.stdout) == (1, "")
    assert "knows no person" in again.stderr
