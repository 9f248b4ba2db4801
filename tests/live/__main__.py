"""Measure many open streams of one server: python -m tests.live --engine postgresql.

This process is the server and the writer. A second process opens the streams of one tenant. The
delay of an event is the time from the begin of the write until the last stream has the event. It
includes the write and the work of the clients, which share the machine.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from app.runtime.fair_loop import FairLoop
from tests.databases import migrated, own_postgresql
from tests.graphql.recorder import recorded
from tests.live.serving import LiveService, serving

IDLE_SECONDS: Final = 20
OPENED_AT_ONCE: Final = 50


async def listen(port: int, token: str, streams: int, events: int) -> None:
    """Open streams, and print when each event came to the first and the last of them."""
    turn = asyncio.Semaphore(OPENED_AT_ONCE)
    opened = 0
    times: dict[int, list[float]] = {}

    async def follow() -> None:
        nonlocal opened
        async with turn:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_of(token))
            while not (await reader.readline()).startswith(b":"):
                pass
        opened += 1
        if opened == streams:
            print("open", flush=True)
        async for line in reader:
            if line.startswith(b"id: "):
                received = times.setdefault(int(line[4:]), [])
                received.append(time.time())
                if len(times) == events and all(len(each) == streams for each in times.values()):
                    print(json.dumps([max(times[each]) for each in sorted(times)]), flush=True)

    await asyncio.gather(*(follow() for _ in range(streams)))


def request_of(token: str) -> bytes:
    """Render the request for a stream."""
    query = "subscription { stockChanged { position code after { onHand available } } }"
    body = json.dumps({"query": query})
    head = (
        "POST /graphql HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {token}",
        "Accept: text/event-stream",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


async def measure(database_url: str, streams: int, events: int) -> None:
    """Serve the streams, and print their delays and the statements of an idle time."""
    limits = {"max_streams_per_token": streams, "stream_interval_seconds": 0.25}
    async with serving(database_url, token_cache_seconds=10, **limits) as live:
        words = [live.client.base_url.port, live.token("read"), streams, events]
        with subprocess.Popen(  # noqa: ASYNC220, S603 - fixed arguments; it must run beside this process
            [sys.executable, "-m", "tests.live", "--listen", *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
        ) as clients:
            try:
                await report(live, clients, events)
            finally:
                clients.kill()


async def report(live: LiveService, clients: subprocess.Popen[str], events: int) -> None:
    """Print the figures of the streams that a process opens."""
    assert clients.stdout is not None
    begin = time.perf_counter()
    assert await asyncio.to_thread(clients.stdout.readline) == "open\n"
    print(f"{len(live.streams)} streams open after {time.perf_counter() - begin:.1f} s")
    processor = time.process_time()
    with recorded() as recorder:
        await asyncio.sleep(IDLE_SECONDS)
    of_feed = sum("deleted_until" in each for each in recorder.statements)
    of_tokens = sum("token_hash" in each for each in recorder.statements)
    processor = (time.process_time() - processor) / IDLE_SECONDS
    print(
        f"idle, per second: {of_feed / IDLE_SECONDS:.1f} reads of the feed, "
        f"{of_tokens / IDLE_SECONDS:.1f} look-ups of tokens, {processor:.1%} of a processor"
    )
    sent = []
    for quantity in range(events):
        sent.append(time.time())
        await live.count("A", 1_000 + quantity)
        await asyncio.sleep(1)
    received = json.loads(await asyncio.to_thread(clients.stdout.readline))
    delays = [after - before for before, after in zip(sent, received, strict=True)]
    print(
        f"{events} events at all streams: median {statistics.median(delays):.2f} s, "
        f"longest {max(delays):.2f} s"
    )


def main() -> None:
    """Measure on an engine, or open streams for a server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--listen", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=FairLoop) as runner:
        if options.listen:
            port, token, streams, events = options.listen
            runner.run(listen(int(port), token, int(streams), int(events)))
        elif options.engine == "sqlite":
            with tempfile.TemporaryDirectory() as directory:
                url = migrated(f"sqlite+aiosqlite:///{Path(directory)}/inventory.db")
                runner.run(measure(url, options.streams, options.events))
        else:
            with own_postgresql() as server:
                url = migrated(server.url.render_as_string(hide_password=False))
                runner.run(measure(url, options.streams, options.events))


if __name__ == "__main__":
    main()
