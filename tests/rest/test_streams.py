"""A complete history is streamed: a page is read while the previous one is sent."""

import asyncio
import gc
from collections.abc import MutableMapping
from typing import Any
from unittest.mock import patch

import pytest

from app.auth.tokens import Authenticator
from app.domain.caller import Principal
from app.errors import Unauthenticated
from app.files.seeding import LoadedLevel
from rest_shim.streaming import STREAM_PAGE
from tests.service import Service, counted, sku, warehouse
from tests.statements import watched

WAREHOUSE = warehouse()
Message = MutableMapping[str, Any]


@pytest.fixture
async def long(service: Service) -> Service:
    """Return a service whose SKU A has a history of three pages, the last with one entry."""
    history = [counted(number) for number in range(2 * STREAM_PAGE + 1)]
    await service.load(
        [WAREHOUSE], [sku("A", LoadedLevel(warehouse_id=WAREHOUSE.id, history=history))]
    )
    return service


def scope_of(service: Service) -> dict[str, Any]:
    """ASGI scope of a request for the complete history."""
    return {
        "type": "http",
        "method": "GET",
        "path": "/api/inventory/A/adjustments",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {service.token('read')}".encode())],
    }


async def stay_connected() -> Message:
    """Receive nothing, as from a client that stays connected."""
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never


async def test_long_history_is_complete_and_ordered(long: Service) -> None:
    whole = await long.rest("GET", "/api/inventory/A/adjustments", token="read")

    assert [it["after_quantity"] for it in whole.json()["data"]] == [
        *range(2 * STREAM_PAGE, -1, -1)
    ]


async def test_next_page_is_read_while_a_page_is_sent(long: Service) -> None:
    steps: list[str] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            steps.append("sent")
            # A slow client: the next page must be read before this one is sent.
            while steps.count("read") < min(steps.count("sent") + 1, 3):
                await asyncio.sleep(0)

    def note(statement: str, _parameters: object) -> None:
        if "FROM adjustment" in statement:
            steps.append("read")

    with watched(before=note):
        async with asyncio.timeout(60):
            await long.app(scope_of(long), stay_connected, send)

    assert steps == ["read", "sent", "read", "sent", "read", "sent"]


@pytest.mark.parametrize("refused", [False, True])
async def test_no_page_task_is_left_after_a_disconnect(long: Service, *, refused: bool) -> None:
    gone = asyncio.Event()
    begun: list[str] = []
    complaints: list[Any] = []
    identify = Authenticator.identify

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        begun.append(message["type"])
        if message["type"] == "http.response.body":
            gone.set()
            await stay_connected()

    async def identified(authenticator: Authenticator, authorization: str | None) -> Principal:
        if refused and begun:
            raise Unauthenticated("The token is revoked.")
        return await identify(authenticator, authorization)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks()
    with patch.object(Authenticator, "identify", identified):
        await long.app(scope_of(long), receive, send)
        left = asyncio.all_tasks() - before
        gc.collect()

    assert begun == ["http.response.start", "http.response.body"]
    assert (left, complaints) == (set(), [])
