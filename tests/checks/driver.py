"""Every route, every root field, every read and the main promises, on any database."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count
from typing import Any, Final

import httpx
from ulid import ULID

from app.database.engine import Database
from app.database.migration import migrate
from app.files.seeding import LoadedLevel
from app.ledger.rollup import roll_up_ledger
from app.ledger.verification import verify_tenant
from app.writes.expiry import expire_reservations
from app.writes.idempotency_keys import delete_expired_keys
from benchmarks.data import WAREHOUSES, code
from rest_shim.routes import ROUTES
from tests.engines import transact
from tests.graphql import maintenance_cases, read_cases
from tests.graphql.read_cases import MAIN, START, STEP, Data, ReadCase
from tests.graphql.test_access_matrix import (
    CODE,
    HELD,
    HOOK,
    ROOT_FIELDS,
    WAREHOUSE,
    document,
    load_objects,
    request,
)
from tests.rest.answers import walk
from tests.service import Service, counted, new_tenant, running, sku
from tests.webhooks.rows import insert_webhook

Check = Callable[[], Awaitable[object]]
STOCKED_SKUS: Final = 60
RESERVATIONS: Final = "/api/inventory/reservations"
LINES: Final = [{"sku": CODE, "warehouse_id": WAREHOUSE, "quantity": 5}]
EXPIRY_SECONDS: Final = 20
SEEN: Final = "{ skus { totalCount } adjustments { totalCount } warehouses { id } }"


@dataclass
class Findings:
    """The number of checks that passed, and the error of each that failed, by name."""

    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    # The statuses of concurrent requests.
    statuses: Counter[int] = field(default_factory=Counter)

    async def run(self, name: str, check: Check) -> None:
        """Run a check."""
        try:
            await check()
        except Exception as error:  # noqa: BLE001 - it is reported
            self.failed[name] = f"{type(error).__name__}: {error}"
        else:
            self.passed += 1


async def check_database(
    database_url: str, *, reads: bool = True, requests: int = 0, clients: int = 8
) -> Findings:
    """Migrate a database, and check the service on it in three new tenants, which stay.

    Without `reads`, the reads are not combined with all their conditions. At the end, clients send
    a number of concurrent requests to two instances of the service.
    """
    findings = Findings()
    async with running(database_url) as (app, client):
        database: Database = app.state.database
        await migrate(database)
        shop, reader, other = [
            Service(app, client, database, await new_tenant(database)) for _ in range(3)
        ]
        await load_objects(shop)
        held = (await _reserved(shop))["id"]
        await findings.run("load", partial(_fill, reader))
        for name, check in chain(_requests(shop, held), _promises(shop, other)):
            await findings.run(name, check)
        for case in _reads(reader.tenant_id) if reads else ():
            await findings.run(case.name, partial(_read, database, case))
        if requests:
            async with running(database_url) as (second, second_client):
                both = [shop, replace(shop, app=second, client=second_client)]
                await findings.run(
                    "concurrent requests",
                    partial(_send_concurrently, both, requests, clients, findings.statuses),
                )
        for service in (shop, reader):
            await findings.run("verify", partial(verify_tenant, database, service.tenant_id))
    return findings


def _requests(shop: Service, held: str) -> Iterator[tuple[str, Check]]:
    """Yield a request to every root field and to every route."""
    for root, name in ROOT_FIELDS:
        query, variables = document(root, name)
        given = json.loads(json.dumps(variables).replace(HELD, held))
        call: Check = partial(_ask, shop, query, given)
        yield f"{root}.{name}", partial(_restock, shop, call)
    for route in ROUTES:
        method, path, options = request(route)
        call = partial(_send, shop, method, path.replace(HELD, held), **options)
        yield f"{method} {route.path}", partial(_restock, shop, call)


async def _ask(shop: Service, query: str, variables: dict[str, Any]) -> None:
    """Send a document; one about a webhook gets a new, paused webhook."""
    text = json.dumps(variables)
    if HOOK in text:
        webhook_id = f"whk_{ULID()}"
        await transact(shop.database, partial(insert_webhook, shop, webhook_id))
        text = text.replace(HOOK, webhook_id)
    await shop.data(query, json.loads(text), token="admin")


async def _restock(shop: Service, check: Check) -> None:
    """Undo what an earlier request has done to the stock, and run a check."""
    await shop.data(
        "mutation ($sku: String!, $id: ID!) { restoreSku(input: {sku: $sku}) { replayed } "
        'setStock(input: {sku: $sku, warehouseId: $id, quantity: 900, reason: "cycle_count"}) '
        "{ replayed } }",
        {"sku": CODE, "id": WAREHOUSE},
        token="admin",
    )
    await check()


def _promises(shop: Service, other: Service) -> Iterator[tuple[str, Check]]:
    """Yield checks of keys, reservations, cursors, jobs and the separation of tenants."""
    yield "repeated key", partial(_repeat, shop)
    yield "committed reservation", partial(_end, shop, "commit")
    yield "released reservation", partial(_end, shop, "release")
    yield "expired reservation", partial(_expire, shop)
    yield "pages", partial(_walk, shop)
    yield "rollup", partial(roll_up_ledger, shop.database, shop.tenant_id)
    yield "deletion of keys", partial(delete_expired_keys, shop.database, shop.tenant_id)
    yield "separation of tenants", partial(_see_nothing, other)


async def _send(shop: Service, method: str, path: str, **options: Any) -> httpx.Response:
    response = await shop.rest(method, path, token="admin", **options)
    assert response.is_success, response.text
    return response


async def _reserved(shop: Service, **more: object) -> dict[str, Any]:
    response = await _send(shop, "POST", RESERVATIONS, json={"lines": LINES, **more})
    made: dict[str, Any] = response.json()["data"]
    return made


async def _end(shop: Service, how: str) -> None:
    path = f"{RESERVATIONS}/{(await _reserved(shop))['id']}"
    await _send(shop, "POST", f"{path}/{how}", json={})
    status = (await _send(shop, "GET", path)).json()["data"]["status"]
    assert status == {"commit": "committed", "release": "released"}[how], status


async def _expire(shop: Service) -> None:
    path = f"{RESERVATIONS}/{(await _reserved(shop, expires_in=1))['id']}"
    async with asyncio.timeout(EXPIRY_SECONDS):
        while (await _send(shop, "GET", path)).json()["data"]["status"] != "expired":
            await expire_reservations(shop.database, shop.tenant_id)


async def _repeat(shop: Service) -> None:
    body = {"warehouse_id": WAREHOUSE, "quantity": 77, "reason": "cycle_count"}
    headers = {"Idempotency-Key": "checks-1"}
    path = f"/api/inventory/{CODE}"
    first, again = [await _send(shop, "PUT", path, json=body, headers=headers) for _ in range(2)]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.content == again.content


async def _walk(shop: Service) -> None:
    path = f"/api/inventory/{CODE}/adjustments"
    items, totals = await walk(shop, path, limit=3)
    whole = (await _send(shop, "GET", path)).json()["data"]
    assert items == whole, (len(items), len(whole))
    assert set(totals) == {len(whole)}


async def _see_nothing(other: Service) -> None:
    seen = await other.data(SEEN)
    assert seen == {"skus": {"totalCount": 0}, "adjustments": {"totalCount": 0}, "warehouses": []}


async def _fill(reader: Service) -> None:
    """Give the tenant of the reads stock with a history and a feed, and roll up its ledger."""

    def loaded(number: int) -> LoadedLevel:
        at = (START + STEP * number).isoformat()
        entry = counted(number % 7, at)
        return LoadedLevel(warehouse_id=MAIN, history=[entry, entry])

    codes = [code(number) for number in range(STOCKED_SKUS)]
    await reader.load(WAREHOUSES, [sku(each, loaded(number)) for number, each in enumerate(codes)])
    update = {"warehouse_id": MAIN, "quantity": 8, "reason": "cycle_count"}
    updates = [{"sku": each, **update} for each in codes]
    await _send(reader, "POST", "/api/inventory/bulk", json={"updates": updates})
    while await roll_up_ledger(reader.database, reader.tenant_id):
        pass


def _reads(tenant_id: str) -> Iterator[ReadCase]:
    """Yield every read with every combination of its conditions."""
    codes = [code(number) for number in range(0, STOCKED_SKUS, 3)]
    data = Data(tenant_id, codes, STOCKED_SKUS, STOCKED_SKUS)
    for reads in (
        *(
            read_cases.availability_reads,
            read_cases.sku_reads,
            read_cases.past_reads,
            read_cases.link_reads,
        ),
        *(read_cases.reservation_reads, read_cases.sign_reads, read_cases.history_reads),
        *(read_cases.warehouse_reads, read_cases.grouped_ledger_reads),
    ):
        yield from reads(data)
    for of_sku in (False, True):
        yield from read_cases.ledger_reads(data, of_sku=of_sku)
    yield maintenance_cases.verification_read(data)


async def _read(database: Database, case: ReadCase) -> None:
    async with database.snapshot() as snapshot:
        await case.call(snapshot)


async def _send_concurrently(
    services: Sequence[Service], requests: int, clients: int, statuses: Counter[int]
) -> None:
    """Send concurrent requests to several instances of a service, and count their statuses.

    Each must be done, or be refused as the documentation says.
    """
    numbers = count()

    async def client(service: Service) -> None:
        while (number := next(numbers)) < requests:
            status, text = await _send_mixed(service, number)
            statuses[status] += 1
            assert status in (200, 201, 409, 422, 503), text

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(services[number % len(services)]))


async def _send_mixed(shop: Service, number: int) -> tuple[int, str]:
    """Send a write, a read of one statement, or a read of several. Returns its status and text."""
    if number % 4 == 3:
        answer = await shop.graphql(SEEN)
        statuses = [error["extensions"]["status"] for error in answer.get("errors", ())]
        return max(statuses, default=200), json.dumps(answer)
    update = {"warehouse_id": WAREHOUSE, "quantity": number, "reason": "cycle_count"}
    method, path, body = [
        ("PUT", f"/api/inventory/{CODE}", update),
        ("GET", f"/api/inventory/{CODE}", None),
        ("POST", RESERVATIONS, {"lines": [{**LINES[0], "quantity": 1}], "expires_in": 60}),
    ][number % 4]
    response = await shop.rest(method, path, json=body)
    return response.status_code, response.text
