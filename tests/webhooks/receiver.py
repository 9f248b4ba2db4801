"""Receivers of webhooks: real servers on loopback addresses."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from app.database.engine import Database
from app.deliveries.worker import WebhookWorker

# The response to a request, as bytes; None hangs until the server is closed.
Respond = Callable[["Received"], bytes | None]


@dataclass(frozen=True)
class Received:
    """A request that a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def positions(self) -> list[int]:
        """The positions of the changes."""
        return [change["position"] for change in self.json["data"]["changes"]]


def response(status: int, body: str = "", **headers: str) -> bytes:
    """Build a response of HTTP."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body.encode())}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


@dataclass
class Receiver:
    """A server that keeps its requests."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    respond: Respond = lambda _: response(204)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def positions(self) -> list[int]:
        """The positions of all changes, in the order of their arrival."""
        return [position for each in self.received for position in each.positions]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            # The case of values counts.
            values = {
                line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line
            }
            body = await reader.readexactly(int(headers["content-length"]))
            request = Received(head[0].split(" ")[1], values, body)
            self.received.append(request)
            answer = self.respond(request)
            if answer is None:
                await self.closed.wait()
            else:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(respond: Respond | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()
    if respond is not None:
        receiver.respond = respond
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.closed.set()
        server.close()
        await server.wait_closed()


async def deliver(worker: WebhookWorker) -> int:
    """Run one round of a worker, and return the number of deliveries."""
    async with asyncio.TaskGroup() as tasks:
        return await worker.start_due(tasks)


async def deliver_all(database: Database) -> None:
    """Deliver until nothing is due."""
    worker = WebhookWorker(database)
    while await deliver(worker):
        pass
