"""The connection to an endpoint, which a tenant has chosen.

The name is resolved once per attempt, and the connection goes to an address that was checked. So a
name that resolves to another address later leads nowhere else. Redirects are not followed, proxies
of the environment are not used, and compressed bodies are not decompressed.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore
import structlog

from app.domain.webhooks import Answer, permits_address

log = structlog.get_logger()
# Of a whole attempt: the name, the connection, the request and the response.
ATTEMPT_SECONDS: Final = 15.0
# The part of a response that is read, and the part that the log of attempts keeps.
MAX_RESPONSE_BYTES: Final = 4_096
KEPT_RESPONSE: Final = 200
MAX_ERROR_LENGTH: Final = 200
# The most addresses of a name that are tried.
TRIED_ADDRESSES: Final = 3
# Slow name servers of tenants keep no thread of another part of the service.
RESOLVING_THREADS: Final = 64


class AddressRefused(Exception):
    """The name of an endpoint has no address that messages may be sent to."""


class Endpoints:
    """Sends messages to endpoints."""

    def __init__(self, *, to_loopback: bool) -> None:
        self._to_loopback = to_loopback
        self._tls = ssl.create_default_context()
        self._resolver = ThreadPoolExecutor(RESOLVING_THREADS, thread_name_prefix="webhooks")

    def close(self) -> None:
        """End the threads that resolve names; a name under way is not waited for."""
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message, and return the response or the fault."""
        began = time.monotonic()
        status = error = text = None
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status, text = await self._post(url, headers, body)
        except TimeoutError:
            error = f"The endpoint did not answer within {ATTEMPT_SECONDS:g} s."
        except AddressRefused as refused:
            error = str(refused)
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError, UnicodeError) as fault:
            error = f"{type(fault).__name__}: {fault}"
        except Exception as fault:
            log.exception("webhook_failed", url=url)
            error = f"{type(fault).__name__}: {fault}"
        return Answer(
            duration_ms=round(1_000 * (time.monotonic() - began)),
            status=status,
            error=_printed(error, MAX_ERROR_LENGTH),
            text=_printed(text, KEPT_RESPONSE),
        )

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        parts = urlsplit(url)
        target = httpcore.URL(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port,
            target=f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}",
        )
        network = _CheckedNetwork(
            self._resolver, is_encrypted=parts.scheme == "https", to_loopback=self._to_loopback
        )
        connection = httpcore.AsyncHTTPConnection(
            target.origin, ssl_context=self._tls, network_backend=network
        )
        sent = {"Host": parts.netloc, **headers, "Content-Length": str(len(body))}
        content = bytearray()
        try:
            async with (
                connection,
                connection.stream("POST", target, headers=list(sent.items()), content=body) as got,
            ):
                async for chunk in got.aiter_stream():
                    content += chunk[:MAX_RESPONSE_BYTES]
                    if len(content) >= MAX_RESPONSE_BYTES:
                        break
        finally:
            await network.close()
        return got.status, content.decode("utf-8", "replace")


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves the name of an endpoint, and connects to addresses that are permitted."""

    def __init__(
        self, resolver: ThreadPoolExecutor, *, is_encrypted: bool, to_loopback: bool
    ) -> None:
        self._resolver = resolver
        self._is_encrypted = is_encrypted
        self._to_loopback = to_loopback
        self._network = httpcore.AnyIOBackend()
        self._stream: httpcore.AsyncNetworkStream | None = None

    async def close(self) -> None:
        """Close the connection. A cancelled TLS handshake of httpcore leaves it open."""
        if self._stream is not None:
            await self._stream.aclose()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - of the base class
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first permitted address that accepts."""
        addresses = [
            address
            for address in await self._resolve(host, port)
            if permits_address(
                address, is_encrypted=self._is_encrypted, to_loopback=self._to_loopback
            )
        ]
        if not addresses:
            message = f"The name {host} has no public address."
            raise AddressRefused(message)
        for address in addresses[:TRIED_ADDRESSES]:
            try:
                self._stream = await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except httpcore.ConnectError as error:
                fault = error
            else:
                return self._stream
        raise fault

    async def _resolve(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._resolver, _addresses, host, port)
        return list(dict.fromkeys(found))


def _addresses(host: str, port: int) -> list[str]:
    """Resolve a name. An address of IPv6 may have a zone, which is refused."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found if "%" not in str(address[0])]


def _printed(text: str | None, longest: int) -> str | None:
    """Shorten a text of an endpoint, and replace what does not print; PostgreSQL refuses NUL."""
    if text is None:
        return None
    return "".join(each if each.isprintable() else " " for each in text[:longest])
