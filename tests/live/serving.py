"""A real server with a new tenant, and clients that read its streams."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import httpx
import uvicorn

from app.cli.listening import listening, server_options, url_of
from app.live.streams import Streams
from app.main import create_app
from app.settings import Settings
from tests.service import Service, level, new_tenant, sku, warehouse

MAIN: Final = warehouse()
OTHER: Final = warehouse("Other")
REST_PATH: Final = "/api/inventory/changes"
ALL: Final = "subscription ($after: Quantity) { changes(after: $after) { position code } }"
EVENTS_ONLY: Final = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: str | None
    id: str | None
    data: str | None

    @property
    def json(self) -> Any:
        """The data of the event."""
        return json.loads(self.data or "")


class EventReader:
    """Reads the events of an open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Read the next event, also one without data."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                continue
            if line:
                fields[name] = value
            elif fields:
                return Event(fields.get("event"), fields.get("id"), fields.get("data"))
        raise StopAsyncIteration

    async def changes(self, number: int) -> list[Any]:
        """Read events until there are some changes, and return their data."""
        found: list[Any] = []
        while len(found) < number:
            event = await anext(self)
            assert event.name in (None, "next"), event
            if event.data is None:
                continue
            content = event.json
            if "data" in content:
                [content] = content["data"].values()
            assert event.id == str(content["position"]), event
            found.append(content)
        return found

    async def next_line(self) -> str:
        """Read a line."""
        return await anext(self._lines)

    async def comment(self) -> None:
        """Read up to the next comment, which must come before an event."""
        line = await self.next_line()
        assert line == ":", line

    async def error(self) -> str:
        """Read the code of the error that ends the stream."""
        event = await anext(self)
        if event.name == "error":
            code = event.json["error"]["code"]
        else:
            [error] = event.json["errors"]
            code = error["extensions"]["code"]
            assert await anext(self) == Event("complete", None, "")
        assert [rest async for rest in self] == []
        return str(code)


@dataclass(frozen=True)
class LiveService(Service):
    """A service on a real server, with the tenant's SKUs A and B in MAIN and OTHER."""

    server: uvicorn.Server
    streams: Streams

    @asynccontextmanager
    async def opened(
        self,
        query: str | None = None,
        variables: Mapping[str, object] | None = None,
        *,
        token: str = "read",
        headers: Mapping[str, str] | None = None,
        **parameters: object,
    ) -> AsyncIterator[EventReader]:
        """Open a subscription, or without a query the stream of REST."""
        given = {**self._authorization(token), **EVENTS_ONLY, **(headers or {})}
        if query is None:
            request: dict[str, Any] = {"method": "GET", "url": REST_PATH, "params": parameters}
        else:
            body = {"query": query, "variables": variables}
            request = {"method": "POST", "url": "/graphql", "json": body}
        async with self.client.stream(**request, headers=given) as response:
            yield EventReader(response)

    async def count(self, code: str, quantity: int, *, warehouse_id: str = MAIN.id) -> None:
        """Set the stock of a SKU."""
        content = {"warehouse_id": warehouse_id, "quantity": quantity, "reason": "cycle_count"}
        response = await self.rest("PUT", f"/api/inventory/{code}", json=content)
        assert response.status_code == 200, response.text

    async def until_open(self, number: int) -> None:
        """Wait until some streams are open."""
        while len(self.streams) != number:
            await asyncio.sleep(0.01)

    async def neighbour(self) -> "LiveService":
        """Return the service for another tenant with the same SKUs."""
        other = replace(self, tenant_id=await new_tenant(self.database))
        await other.stock()
        return other

    async def stock(self) -> None:
        """Load the SKUs."""
        levels = [level(MAIN, 10), level(OTHER, 5)]
        await self.load([MAIN, OTHER], [sku("A", *levels), sku("B", *levels)])


@asynccontextmanager
async def serving(database_url: str, **settings: Any) -> AsyncIterator[LiveService]:
    """Run a server with an empty tenant."""
    defaults: dict[str, Any] = {
        "log_level": "error",
        "slow_statement_ms": None,
        "token_cache_seconds": 0,
        "stream_interval_seconds": 0.02,
    }
    chosen = Settings(database_url=database_url, **{**defaults, **settings})
    app = create_app(chosen)
    server = uvicorn.Server(uvicorn.Config(app, **server_options(chosen)))
    with listening("127.0.0.1", 0) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        limits = httpx.Limits(max_connections=None)
        address = url_of(listener)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
            database = app.state.database
            streams = server.lifespan.state["streams"]
            service = LiveService(
                app, client, database, await new_tenant(database), server, streams
            )
            await service.stock()
            yield service
        server.should_exit = True
        await task
