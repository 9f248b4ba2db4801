"""Streams a whole adjustment history as one JSON body, with at most two pages in memory."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.runtime.fair_loop import in_pieces
from rest_shim.rendering import Body, Data, render_adjustment

# Rows per page of a stream: more than the page size that clients may request.
STREAM_PAGE: Final = 2_000

# Reads the page at a cursor, given as a variable, or the first page without one.
PageReader = Callable[[Mapping[str, object]], Coroutine[Any, Any, Data]]


class JSONStream(StreamingResponse):
    """A JSON response from a generator, which is closed when the response ends."""

    media_type = "application/json"

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        super().__init__(chunks)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the chunks."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.aclose()


async def stream_pages(read_page: PageReader) -> JSONStream:
    """Stream all pages. The first is read at once, so that errors come before the response."""
    return JSONStream(_chunks(await read_page({}), read_page))


async def _chunks(page: Data, read_page: PageReader) -> AsyncGenerator[bytes, None]:
    start = b'{"data":['
    while page["pageInfo"]["hasNextPage"]:
        # The database reads the next page while this one is sent.
        next_page = asyncio.create_task(read_page({"cursor": page["pageInfo"]["endCursor"]}))
        try:
            yield start + await _render_rows(page["nodes"])
            start = b","
            page = await next_page
        finally:
            # The client may have disconnected.
            next_page.cancel()
            await asyncio.gather(next_page, return_exceptions=True)
    yield start + await _render_rows(page["nodes"]) + b"]}"


async def _render_rows(nodes: Sequence[Data]) -> bytes:
    return orjson.dumps(await in_pieces(_render_adjustments, nodes))[1:-1]


def _render_adjustments(nodes: Iterable[Data]) -> list[Body]:
    return [render_adjustment(node) for node in nodes]
