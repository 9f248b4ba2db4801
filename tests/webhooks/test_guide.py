"""The receiver of the documentation verifies and prints the changes."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from app.main import create_app
from app.settings import Settings
from tests.databases import migrated
from tests.house.documents import BLOCK, ROOT, text_of
from tests.service import Service, new_tenant, running, sku
from tests.webhooks.receiver import deliver_all
from tests.webhooks.stock import MAIN, changes_of, hook, set_stock

PAGE = ROOT / "docs" / "webhooks.md"
SECONDS = 60


async def test_the_receiver_of_the_documentation_prints_verified_changes(tmp_path: Path) -> None:
    [source] = [block[2] for block in BLOCK.finditer(text_of(PAGE)) if block[1] == "python"]
    script = tmp_path / "receive.py"
    script.write_text(source, encoding="utf-8")
    url = await asyncio.to_thread(migrated, f"sqlite+aiosqlite:///{tmp_path}/inventory.db")
    async with running(url, webhooks_to_loopback=True) as (app, client):
        database = app.state.database
        service = Service(app, client, database, await new_tenant(database))
        await service.load([MAIN], [sku("A")])
        # The port is known after the start, and the secret before it.
        created = await hook(service, "http://127.0.0.1:9/")
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - a script of the documentation
            [sys.executable, str(script)],
            env={**os.environ, "WEBHOOK_SECRET": created.secret or "", "WEBHOOK_PORT": "0"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        # Ends the output, and so the test, if the script prints nothing.
        watchdog = threading.Timer(SECONDS, process.kill)
        watchdog.start()
        try:
            [port] = json.loads(await asyncio.to_thread(process.stdout.readline)).values()
            address = f"http://127.0.0.1:{port}/"
            changes = {"input": {"id": created.record.id, "url": address}}
            update = (
                "mutation ($input: UpdateWebhookInput!) { updateWebhook(input: $input) "
                "{ webhook { url } } }"
            )
            await service.data(update, changes, token="admin")
            forged = {
                "webhook-id": "msg_1",
                "webhook-timestamp": "1",
                "webhook-signature": "v1,eA==",
            }
            async with httpx.AsyncClient() as forger:
                refused = await forger.post(address, content=b"{}", headers=forged)
            await set_stock(service, 5)
            await deliver_all(database)
            expected = await changes_of(service)
            lines = [await asyncio.to_thread(process.stdout.readline) for _ in expected]
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()

    assert refused.status_code == 401
    assert [json.loads(line) for line in lines] == expected


async def test_a_running_service_delivers(tmp_path: Path) -> None:
    url = await asyncio.to_thread(migrated, f"sqlite+aiosqlite:///{tmp_path}/inventory.db")
    app = create_app(Settings(database_url=url, webhooks_to_loopback=True, log_level="error"))
    database = app.state.database
    arrived = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()
        arrived.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            service = Service(app, client, database, await new_tenant(database))
            await service.load([MAIN], [sku("A")])
            await hook(service, f"http://127.0.0.1:{port}/")
            await set_stock(service, 5)
            async with asyncio.timeout(SECONDS):
                await arrived.wait()
    server.close()
