"""Randomly mutated requests, as bytes over a real socket."""

import random
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import orjson

from tests.fuzz.target import MAIN, Broken, Target, check_answer

TIMEOUT_SECONDS: Final = 30
LAST: Final = (
    b"GET /healthz HTTP/1.1\r\nHost: service\r\nX-Padding: %b\r\nConnection: close\r\n\r\n"
    % (b"x" * 1_100)
)
NASTY: Final = (
    *(b"\x00", b"\r\n", b"\n", b"\r", b"\t", b" ", b"%00", b"%0d%0a", b"%2e%2e%2f", b"%c0%af"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"%ed%a0%80", b"%", b"%zz", b"..", b"//"),
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"-0", b"1e400", b"1E2"),
    *(b"9" * 400, b"-1", b"true", b"\\u0000", b"\\ud800", b"'", b";", b"--", b"*", b"$", b"@"),
    *(b"A" * 5_000, b"[" * 500, b'{"a":' * 100, b"{a" * 200, b"__typename", b"...", b"#", b'"""'),
)


def fuzz_bytes(target: Target, *, requests: int, start: int) -> Counter[int]:
    """Return the number of responses by status to mutated requests; 0 is a closed connection."""
    dice = random.Random(start)
    seeds = templates(target)
    statuses: Counter[int] = Counter()
    for _ in range(requests):
        statuses[exchange(target, mutated(dice.choice(seeds), dice))] += 1
    return statuses


def templates(target: Target) -> list[list[bytes]]:
    """Return the valid requests, each as request line, headers and body."""
    key = b"Idempotency-Key: k"
    update = {"warehouse_id": MAIN.id, "quantity": 5, "reason": "cycle_count", "note": "n"}
    item = {"sku": "A", **update}
    line = {"sku": "A", "quantity": 1}
    move = {"from_warehouse_id": MAIN.id, "to_warehouse_id": MAIN.id, "lines": [line]}
    query = "query ($s: String!) { sku(sku: $s) { sku stock { onHand warehouse { id } } } }"
    write = "mutation ($i: SetStockInput!) { setStock(input: $i) { replayed } }"
    of_write = {"input": {"sku": "A", "warehouseId": MAIN.id, "quantity": 1, "reason": "x"}}
    plain: list[tuple[bytes, list[bytes], object]] = [
        (b"GET /api/inventory?limit=3&status=normal&sku=A", [], None),
        (b"GET /api/inventory/A", [b'If-None-Match: "1"'], None),
        (b"GET /api/inventory/warehouses", [], None),
        (b"GET /api/inventory/AB%2F12/adjustments?limit=5&start_date=2026-01-01", [], None),
        (b"GET /api/inventory/A/adjustments", [], None),
        (b"PUT /api/inventory/A", [key, b'If-Match: "1", "2"'], update),
        (b"POST /api/inventory/bulk?dry_run=true", [key], {"updates": [item, item]}),
        (b"POST /api/inventory/transfers", [key], move),
        (b"POST /api/inventory/A/adjustments", [key], {**update, "delta": 1}),
        (b"POST /graphql", [], {"query": query, "variables": {"s": "A"}}),
        (b"POST /graphql", [], {"query": write, "variables": of_write}),
        (b"GET /graphql?query=%7B__typename%7D&variables=%7B%7D", [], None),
        (b"GET /healthz", [], None),
        (b"GET /api/openapi.json", [], None),
        (b"GET /static/nothing.js", [], None),
    ]
    return [
        [
            words + b" HTTP/1.1",
            b"\r\n".join(
                [
                    b"Host: service",
                    b"Authorization: " + target.authorization.encode(),
                    *([b"Content-Type: application/json"] if content is not None else []),
                    *headers,
                ]
            ),
            b"" if content is None else orjson.dumps(content),
        ]
        for words, headers, content in plain
    ]


def mutated(parts: Sequence[bytes], dice: random.Random) -> bytes:
    """Return a request with changed bytes in one part; its length is correct in most cases."""
    line, headers, body = parts
    changed = dice.choices(("line", "headers", "body"), (4, 2, 6 if body else 0))[0]
    change: Callable[[bytes], bytes] = lambda part: _mutated(part, dice)  # noqa: E731
    if changed == "line":
        method, path, version = line.split(b" ")
        line = b" ".join([method, change(path), version]) if dice.random() < 0.8 else change(line)
    elif changed == "headers":
        headers = change(headers)
    else:
        body = change(body)
    length = len(body) + (dice.choice((-1, 1, 1_000)) if dice.random() < 0.02 else 0)
    sized = b"\r\nContent-Length: %d" % max(0, length) if body else b""
    return line + b"\r\n" + headers + sized + b"\r\n\r\n" + body


def _mutated(part: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randint(0, len(part))
        until = min(len(part), at + dice.choice((0, 1, 1, 3, 20)))
        new = dice.choice(
            (
                b"",
                bytes([dice.randrange(256)]),
                dice.choice(NASTY),
                part[at:until] * dice.choice((2, 50)),
                bytes(byte ^ (1 << dice.randrange(8)) for byte in part[at:until]),
            )
        )
        part = part[:at] + new + part[until:]
    return part


def exchange(target: Target, request: bytes) -> int:
    """Status of the first response to a request on a new connection; all responses are checked.

    If the service expects more of the body, the request that closes the connection becomes
    part of the body.
    """
    received = bytearray()
    address = ("127.0.0.1", target.port)
    with socket.create_connection(address, timeout=TIMEOUT_SECONDS) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request + LAST)
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                received += chunk
    first, rest = 0, bytes(received)
    while rest:
        status, rest = _answer(rest, request)
        first = first or status
    return first


def _answer(received: bytes, request: bytes) -> tuple[int, bytes]:
    head, end, rest = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    words = lines[0].split(b" ")
    if not end or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        message = f"not HTTP: {received[:500]!r}\nrequest: {request!r}"
        raise Broken(message)
    status = int(words[1])
    if status < HTTPStatus.OK:
        return _answer(rest, request)
    pairs = [line.decode("latin-1").partition(": ") for line in lines[1:]]
    headers = {name.lower(): value for name, _, value in pairs}
    if len(headers) != len(pairs):
        message = f"repeated header: {head!r}\nrequest: {request!r}"
        raise Broken(message)
    length = int(headers.get("content-length", len(rest)))
    if request.startswith(b"HEAD") or status in (204, 304):
        length = 0
    if headers.get("transfer-encoding") == "chunked":
        body, rest = _dechunked(rest)
    else:
        body, rest = rest[:length], rest[length:]
    check_answer(status, headers, body, request=request)
    return status, rest


def _dechunked(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, rest
