"""Server-sent events: requests for them, their bytes, and the response that sends them."""

import re
from collections.abc import AsyncGenerator, Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from app.errors import invalid_field
from app.runtime.request_facts import current_request_facts

EVENT_STREAM: Final = "text/event-stream"
LAST_EVENT_ID: Final = "Last-Event-ID"
# The key of the lifespan state with the open streams of the process.
STREAMS_STATE: Final = "streams"
# nginx would otherwise keep events until its buffer is full.
EVENT_HEADERS: Final = {"X-Accel-Buffering": "no"}
_POSITION: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


class EventStream(StreamingResponse):
    """A response of server-sent events. `close` is called when it ends, also before its start."""

    media_type = EVENT_STREAM

    def __init__(self, chunks: AsyncGenerator[bytes, None], close: Callable[[], None]) -> None:
        super().__init__(chunks, headers=EVENT_HEADERS)
        self._chunks = chunks
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the stream ends or the client disconnects."""
        if (facts := current_request_facts.get()) is not None:
            facts.is_event_stream = True

        async def send_head_at_once(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                # Servers keep the head back until the first part of the body.
                await send({"type": "http.response.body", "body": b"", "more_body": True})

        try:
            await super().__call__(scope, receive, send_head_at_once)
        finally:
            self._close()
            await self._chunks.aclose()


def accepts_events(request: Request) -> bool:
    """Whether a request accepts server-sent events."""
    accepted = request.headers.get("accept", "").lower()
    return request.method != "HEAD" and EVENT_STREAM in accepted


def accepts_only_events(request: Request) -> bool:
    """Whether a request accepts server-sent events, and does not name JSON."""
    return accepts_events(request) and "json" not in request.headers["accept"].lower()


def last_event_id(headers: Headers) -> int | None:
    """Position in the header Last-Event-ID, which a client sends when it connects again.

    Raises:
        ValidationFailed: the header is not a position of the feed.

    """
    text = headers.get(LAST_EVENT_ID)
    if text is None:
        return None
    if not _POSITION.fullmatch(text):
        raise invalid_field(LAST_EVENT_ID, "must be the id of an event: a position of the feed")
    return int(text)


def event_bytes(
    data: bytes = b"", *, name: str | None = None, position: int | None = None
) -> bytes:
    """Render an event; `data` is a line. Without data it only sets the id of the last event."""
    lines = [] if position is None else [b"id: %d" % position]
    if name is not None:
        lines.append(b"event: " + name.encode())
    if data or name is not None:
        lines.append(b"data: " + data)
    return b"\n".join(lines) + b"\n\n"
