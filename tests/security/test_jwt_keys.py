"""Keys of an identity provider: fetched, cached, refreshed, and invalid ones."""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from unittest.mock import Mock

import jwt
import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from app.auth import jwt as identity
from app.auth.jwt import ALGORITHMS_BY_FAMILY, MAX_DOCUMENT_BYTES, IdentityProvider, KeySet
from app.auth.tokens import Authenticator
from app.errors import Unauthenticated, Unavailable
from tests.security.identity_provider import (
    KEY,
    OTHER_KEY,
    Door,
    Provider,
    hold,
    jwks,
    settings,
)
from tests.service import Service


def keys_of(door: Door) -> KeySet:
    """Key set of an authenticator."""
    assert door.authenticator._provider is not None
    return door.authenticator._provider._keys


def grow_old(door: Door, seconds: float) -> None:
    """Make the key set older."""
    keys_of(door)._attempted_at -= seconds


async def refreshed(keys: KeySet) -> None:
    """Wait for the refresh in the background."""
    if keys._refreshing is not None:
        await keys._refreshing


async def test_keys_are_fetched_once_and_again_for_a_new_key_id(
    remote: tuple[Door, Provider],
) -> None:
    door, provider = remote
    for _ in range(3):
        await door.authenticator.authenticate(f"Bearer {door.token()}")
    assert provider.requests == 1

    provider.keys = jwks(two=OTHER_KEY)
    rotated = door.token(lambda _, header: header.update(kid="two"), OTHER_KEY)
    grow_old(door, 11)
    principal = await door.authenticator.authenticate(f"Bearer {rotated}")

    assert principal.tenant_id == door.tenant_id
    assert provider.requests == 2
    with pytest.raises(Unauthenticated):
        await door.authenticator.authenticate(f"Bearer {door.token()}")


async def test_unknown_key_ids_do_not_flood_the_provider(remote: tuple[Door, Provider]) -> None:
    door, provider = remote
    await door.authenticator.authenticate(f"Bearer {door.token()}")
    for number in range(20):
        token = door.token(lambda _, header, number=number: header.update(kid=f"k{number}"))  # type: ignore[misc]
        with pytest.raises(Unauthenticated):
            await door.authenticator.authenticate(f"Bearer {token}")

    assert provider.requests == 1


@pytest.mark.parametrize("answer", [{"keys": []}, {"keys": "x"}, [], "x", None, {"keys": [{}]}])
async def test_the_last_valid_keys_stay_while_the_provider_fails(
    remote: tuple[Door, Provider], answer: object
) -> None:
    door, provider = remote
    await door.authenticator.authenticate(f"Bearer {door.token()}")
    provider.keys, provider.status = answer, 200 if answer else 500
    grow_old(door, 1_000)

    for _ in range(3):
        assert await door.authenticator.authenticate(f"Bearer {door.token()}")
        await refreshed(keys_of(door))
    assert provider.requests == 2


GOOD_KEY: Final = jwks(one=KEY)["keys"][0]
ODD_KEYS: Final[dict[str, object]] = {
    "a number": 1,
    "null": None,
    "a list": [GOOD_KEY],
    "an unknown type": {**GOOD_KEY, "kty": "quantum"},
    "a type that is a list": {**GOOD_KEY, "kty": ["RSA"]},
    "an algorithm that is an object": {**GOOD_KEY, "alg": {"a": 1}},
    "an unknown algorithm": {**GOOD_KEY, "alg": "RS1"},
    "an id that is a number": {**GOOD_KEY, "kid": 1},
    "an id that is a list": {**GOOD_KEY, "kid": ["one"]},
    "no id": {name: value for name, value in GOOD_KEY.items() if name != "kid"},
    "a use that is a list": {**GOOD_KEY, "use": ["sig"]},
    "a modulus that is a number": {**GOOD_KEY, "n": 1},
    "a modulus that is not Base64": {**GOOD_KEY, "n": "\u00e4"},
    "an empty modulus": {**GOOD_KEY, "n": ""},
    "an exponent of 1": {**GOOD_KEY, "e": "AQ"},
    "a curve with an unknown name": {"kty": "EC", "crv": "P-1", "x": "AA", "y": "AA", "kid": "one"},
    "a point beside its curve": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "one"},
    "a secret": {"kty": "oct", "k": "AAAA", "kid": "one"},
}


@pytest.mark.parametrize("what", ODD_KEYS)
async def test_an_invalid_key_is_skipped_and_valid_keys_work(
    key_set: tuple[KeySet, Provider], what: str
) -> None:
    keys, provider = key_set
    provider.keys = {"keys": [ODD_KEYS[what]]}
    with pytest.raises(Unavailable):
        await keys.key("one")

    provider.keys = {"keys": [ODD_KEYS[what], GOOD_KEY]}
    keys._attempted_at -= 11
    assert await keys.key("one")


async def test_a_key_that_cannot_verify_refuses_the_jwt(
    remote: tuple[Door, Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, _ = remote
    for error in (UnsupportedAlgorithm("x"), KeyError("x"), TypeError(), RecursionError()):
        monkeypatch.setattr(jwt, "decode", Mock(side_effect=error))
        with pytest.raises(Unauthenticated):
            await door.authenticator.authenticate(f"Bearer {door.token()}")


DOCUMENTS: Final[dict[str, bytes]] = {
    "empty": b"",
    "not JSON": b"<html>",
    "not UTF-8": b"\xff\xfe",
    "a list": json.dumps([GOOD_KEY]).encode(),
    "keys that are an object": json.dumps({"keys": GOOD_KEY}).encode(),
    "nested deeply": b'{"keys": ' + b"[" * 100_000,
    "thousands of keys": json.dumps({"keys": [{"kid": "x"}] * 5_000 + [GOOD_KEY]}).encode(),
    "too long": json.dumps({"keys": [GOOD_KEY], "x": "x" * MAX_DOCUMENT_BYTES}).encode(),
    "a compressed bomb": gzip.compress(b" " * 10_000_000),
}


@pytest.mark.parametrize("what", DOCUMENTS)
async def test_an_invalid_key_document_is_unavailable(
    key_set: tuple[KeySet, Provider], tmp_path: Path, what: str
) -> None:
    remote, provider = key_set
    provider.document = DOCUMENTS[what]
    file = tmp_path / "jwks.json"
    hold(file, DOCUMENTS[what])
    for keys in (remote, KeySet(str(file), ALGORITHMS_BY_FAMILY["RS"])):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await keys.key("one")

    assert provider.requests == 1


@pytest.mark.parametrize("source", ["/dev/zero", "/", "/nowhere", "ftp://127.0.0.1/", "http://[/"])
async def test_a_source_without_a_document_is_unavailable(source: str) -> None:
    with pytest.raises(Unavailable):
        await KeySet(source, ALGORITHMS_BY_FAMILY["RS"]).key("one")


@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
async def test_no_redirect_is_followed(key_set: tuple[KeySet, Provider], scheme: str) -> None:
    keys, provider = key_set
    provider.status, provider.location = 302, f"{scheme}{provider.url.removeprefix('http')}"

    with pytest.raises(Unavailable):
        await keys.key("one")
    assert provider.requests == 1


async def test_forged_key_ids_query_a_failing_provider_once(remote: tuple[Door, Provider]) -> None:
    door, provider = remote
    await door.authenticator.authenticate(f"Bearer {door.token()}")
    provider.status = 500
    grow_old(door, 11)
    for number in range(20):
        token = door.token(lambda _, header, number=number: header.update(kid=f"k{number}"))  # type: ignore[misc]
        with pytest.raises(Unauthenticated):
            await door.authenticator.authenticate(f"Bearer {token}")
    assert await door.authenticator.authenticate(f"Bearer {door.token()}")

    assert provider.requests == 2


DRIPS: Final = {
    "nothing": b"",
    "a status line": b"HTTP/1.1 200 OK\r\n",
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
}


@asynccontextmanager
async def dripping(begin: bytes) -> AsyncIterator[tuple[str, asyncio.Queue[str]]]:
    """Serve a response that never ends. Yields its address and the events of its connections."""
    events: asyncio.Queue[str] = asyncio.Queue()
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(drip(reader, writer)))

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        events.put_nowait("came")
        gone = asyncio.create_task(_gone(reader))
        writer.write(begin)
        while not gone.done():
            if begin:
                writer.write(b" ")
            await asyncio.wait({gone}, timeout=0.01)
        writer.close()
        events.put_nowait("went")
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _gone(reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/jwks.json", events
    await asyncio.gather(*connections)


@pytest.mark.parametrize("what", DRIPS)
async def test_a_slow_provider_is_abandoned_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(identity, "FETCH_SECONDS", 0.1)
    async with dripping(DRIPS[what]) as (url, events):
        keys = KeySet(url, ALGORITHMS_BY_FAMILY["RS"])
        threads = set(threading.enumerate())
        for _ in range(3):
            with pytest.raises(Unavailable):
                await keys.key("one")
        async with asyncio.timeout(30):
            assert [await events.get(), await events.get()] == ["came", "went"]

        assert events.empty()
        assert set(threading.enumerate()) <= threads


async def test_a_known_key_does_not_wait_for_a_refresh(key_set: tuple[KeySet, Provider]) -> None:
    keys, provider = key_set
    await keys.key("one")
    async with dripping(b"") as (url, events):
        keys._source = url
        keys._attempted_at -= 1_000
        for _ in range(3):
            assert await keys.key("one")
        async with asyncio.timeout(30):
            assert await events.get() == "came"
        refresh = keys._refreshing
        assert refresh is not None

        unknown = asyncio.create_task(keys.key("two"))
        assert await keys.key("one")
        assert not unknown.done()
        unknown.cancel()
        await asyncio.gather(unknown, return_exceptions=True)
        # The refresh outlives a request that waited for it and hung up.
        assert not refresh.done()
        refresh.cancel()
        await asyncio.gather(refresh, return_exceptions=True)
    assert provider.requests == 1


async def test_a_provider_without_keys_is_503_not_401(service: Service) -> None:
    identity = IdentityProvider(settings("http://127.0.0.1:9/jwks.json"))
    authenticator = Authenticator(service.database, cache_seconds=0, provider=identity)

    with pytest.raises(Unavailable):
        await authenticator.authenticate(f"Bearer {Door(authenticator, service.tenant_id).token()}")


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "null", '"x"', '{"keys": 1}', "\x00", '{"keys": [1]}']
)
async def test_a_file_without_keys_is_503_not_401(door: Door, keys_file: Path, text: str) -> None:
    hold(keys_file, text)
    with pytest.raises(Unavailable):
        await door.authenticator.authenticate(f"Bearer {door.token()}")

    # Valid keys also stay while the file is being replaced.
    hold(keys_file, json.dumps(jwks(one=KEY)))
    grow_old(door, 1_000)
    assert await door.authenticator.authenticate(f"Bearer {door.token()}")
    hold(keys_file, text)
    grow_old(door, 1_000)
    for _ in range(2):
        assert await door.authenticator.authenticate(f"Bearer {door.token()}")
        await refreshed(keys_of(door))
