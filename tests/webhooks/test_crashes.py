"""A worker process that dies during an attempt loses nothing."""

import asyncio
from datetime import timedelta

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.webhook_tables import webhook
from tests.engines import transact
from tests.processes import started
from tests.service import Service, new_tenant, running, sku
from tests.webhooks.receiver import Receiver, receiving
from tests.webhooks.stock import MAIN, changes_of, hook, row_of, set_stock

SECONDS = 60


async def until_received(receiver: Receiver, number: int) -> None:
    async with asyncio.timeout(SECONDS):
        while len(receiver.received) < number:
            await asyncio.sleep(0.01)


async def test_another_process_sends_the_message_of_a_killed_one(own_database_url: str) -> None:
    settings = {"INVENTORY_WEBHOOKS_TO_LOOPBACK": "true"}
    async with (
        running(own_database_url, webhooks_to_loopback=True) as (app, client),
        # The first attempt gets no answer.
        receiving(lambda _: None) as silent,
        receiving() as receiver,
    ):
        service = Service(app, client, app.state.database, await new_tenant(app.state.database))
        await service.load([MAIN], [sku("A")])
        created = await hook(service, silent.url)
        await set_stock(service, 1)
        with started("serve", database_url=own_database_url, **settings) as (process, _):
            await until_received(silent, 1)
            process.kill()
        claimed = await row_of(service, created.record.id)
        assert claimed.lease_id is not None

        async def move_on(connection: AsyncConnection) -> None:
            """Let the lease end, and the endpoint answer."""
            ended = {"lease_until": claimed.lease_until - timedelta(hours=1)}
            await connection.execute(update(webhook).values(url=receiver.url, **ended))

        await transact(service.database, move_on)
        await set_stock(service, 2)
        with started("serve", database_url=own_database_url, **settings):
            await until_received(receiver, 2)
        expected = [change["position"] for change in await changes_of(service)]

    [first] = silent.received
    again = receiver.received[0]
    assert (again.headers["webhook-id"], again.body) == (first.headers["webhook-id"], first.body)
    assert receiver.positions == expected
