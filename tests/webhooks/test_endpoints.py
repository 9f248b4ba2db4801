"""A tenant chooses the URL of an endpoint, and reaches nothing but public servers by it."""

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.deliveries import endpoints as sending
from app.deliveries.endpoints import Endpoints
from app.domain.webhooks import permits_address, url_problem
from tests.webhooks.receiver import Receiver, receiving, response

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),  # noqa: S104
    # Link-local: the metadata of clouds.
    *("169.254.169.254", "fe80::1", "fd00:ec2::254"),
    *("100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "203.0.113.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fc00::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "100::1"),
    # Addresses of IPv4 in other ones: mapped, compatible, translated, 6to4, Teredo.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:80ff:fffe"),
]


@pytest.fixture
async def endpoints() -> AsyncIterator[Endpoints]:
    result = Endpoints(to_loopback=False)
    yield result
    result.close()


@pytest.fixture
async def to_loopback() -> AsyncIterator[Endpoints]:
    result = Endpoints(to_loopback=True)
    yield result
    result.close()


def resolves(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let every name resolve to the next address, and list the names that were resolved."""
    names: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        names.append(host)
        address = answers[min(len(names), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return names


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted_with_encryption_only(address: str) -> None:
    assert permits_address(address, is_encrypted=True, to_loopback=False)
    assert not permits_address(address, is_encrypted=False, to_loopback=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_no_other_address_is_permitted(address: str) -> None:
    assert not permits_address(address, is_encrypted=True, to_loopback=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_the_setting_for_development_permits_loopback_addresses(address: str) -> None:
    assert permits_address(address, is_encrypted=False, to_loopback=True)


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "fe80::1"])
def test_the_setting_for_development_permits_no_other_private_address(address: str) -> None:
    assert not permits_address(address, is_encrypted=True, to_loopback=True)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "x",
            "//example.com",
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
        ),
        *("https://", "https:///path", "https://:443/", "https://example.com:0/"),
        *("https://example.com:70000/", "https://example.com:x/", "https://[::1", "https://[x]/"),
        *("https://user@example.com/", "https://user:secret@example.com/", "https://@example.com/"),
        *(
            "https://example.com/#part",
            "https://example.com/a b",
            "https://example.com\\@10.0.0.1/",
        ),
        *("https://example.com/\r\nX: y", "https://example.com/\0", "https://exämple.com/"),
        *("https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "https://169.254.169.254/"),
        *("https://[::ffff:10.0.0.1]/", "https://[fe80::1]/", "https://[64:ff9b::a00:1]/"),
        "https://example.com/" + "a" * 2_000,
    ],
)
def test_urls_of_no_public_server_are_refused(url: str) -> None:
    assert url_problem(url, to_loopback=False)


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://example.com:8443/a?b=c&d=%20", "https://8.8.8.8/"]
)
def test_urls_of_public_servers_are_accepted(url: str) -> None:
    assert url_problem(url, to_loopback=False) is None


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "017700000001"])
async def test_a_name_of_a_private_address_gets_no_connection(
    endpoints: Endpoints, host: str
) -> None:
    async with receiving() as receiver:
        answer = await endpoints.post(f"https://{host}:{receiver.port}/", {}, b"{}")

    assert receiver.connections == 0
    assert answer.status is None
    assert answer.error == f"The name {host} has no public address."


async def test_a_name_that_resolves_elsewhere_later_leads_nowhere_else(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The check sees a public address, and a second look-up would see the private one.
    names = resolves(monkeypatch, "192.0.2.1", "127.0.0.1")
    async with receiving() as receiver:
        answer = await endpoints.post(f"https://rebinding.example:{receiver.port}/", {}, b"{}")

    assert names == ["rebinding.example"]
    assert receiver.connections == 0
    assert answer.error == "The name rebinding.example has no public address."


async def test_redirects_are_not_followed(to_loopback: Endpoints) -> None:
    async with receiving() as other:
        location = other.url
        async with receiving(lambda _: response(307, Location=location)) as receiver:
            answer = await to_loopback.post(receiver.url, {}, b"{}")

    assert (answer.status, answer.is_success) == (307, False)
    assert other.connections == 0


async def test_proxies_of_the_environment_are_not_used(
    to_loopback: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        answer = await to_loopback.post(receiver.url, {}, b"{}")

    assert answer.is_success
    assert (proxy.connections, receiver.connections) == (0, 1)


async def test_an_endless_response_is_read_in_part(to_loopback: Endpoints) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
    async with receiving(lambda _: head + b"a" * 100_000) as receiver:
        answer = await to_loopback.post(receiver.url, {}, b"{}")

    assert (answer.status, answer.text) == (200, "a" * 200)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: ",
    ],
    ids=["silent", "body that stops", "head that stops"],
)
async def test_a_slow_endpoint_is_given_up(
    to_loopback: Endpoints, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr(sending, "ATTEMPT_SECONDS", 0.2)

    async with receiving() as receiver:

        async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if answer is not None:
                writer.write(answer)
            await receiver.closed.wait()
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        result = await to_loopback.post(f"http://127.0.0.1:{port}/", {}, b"{}")
        receiver.closed.set()
        server.close()

    assert result.status is None
    assert result.error == "The endpoint did not answer within 0.2 s."


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\xff" * 99,
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 99_999,
    ],
    ids=["nothing", "garbage", "status", "head without an end"],
)
async def test_garbage_is_a_failed_attempt(to_loopback: Endpoints, answer: bytes) -> None:
    async with receiving(lambda _: answer) as receiver:
        result = await to_loopback.post(receiver.url, {}, b"{}")

    assert not result.is_success
    assert result.error
    assert len(result.error) <= 200
    assert result.error.isprintable()


async def test_a_closed_port_and_an_unknown_name_are_failed_attempts(
    to_loopback: Endpoints,
) -> None:
    async with receiving() as receiver:
        url = receiver.url
    for each in (url, "https://name.invalid/", f"https://{'a' * 70}.example/"):
        result = await to_loopback.post(each, {}, b"{}")
        assert result.error
        assert result.status is None


@asynccontextmanager
async def encrypted(directory: Path) -> AsyncIterator[tuple[str, Path]]:
    """Run a server with a certificate of its own for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = directory / "certificate.pem"
    public.write_bytes(certificate.public_bytes(Encoding.PEM))
    private = directory / "key.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    server = await asyncio.start_server(Receiver().serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield f"https://localhost:{port}/", public
    server.close()


async def test_certificates_are_verified(
    to_loopback: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with encrypted(tmp_path) as (url, certificate):
        refused = await to_loopback.post(url, {}, b"{}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusting = Endpoints(to_loopback=True)
        accepted = await trusting.post(url, {}, b"{}")
        other_name = await trusting.post(url.replace("localhost", "127.0.0.1"), {}, b"{}")
        trusting.close()

    assert "CERTIFICATE_VERIFY_FAILED" in (refused.error or "")
    assert "CERTIFICATE_VERIFY_FAILED" in (other_name.error or "")
    assert accepted.is_success


async def test_a_handshake_that_stops_is_given_up_and_leaves_no_connection(
    to_loopback: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "ATTEMPT_SECONDS", 0.2)
    async with receiving() as receiver:
        result = await to_loopback.post(receiver.url.replace("http:", "https:"), {}, b"{}")
        gc.collect()

    assert result.error == "The endpoint did not answer within 0.2 s."


async def test_the_request_has_the_host_the_path_and_the_query(to_loopback: Endpoints) -> None:
    receiver: Receiver
    async with receiving() as receiver:
        url = f"http://localhost:{receiver.port}/a/b?c=d"
        await to_loopback.post(url, {"webhook-id": "msg_1"}, b"{}")

    [request] = receiver.received
    assert request.path == "/a/b?c=d"
    assert request.headers["host"] == f"localhost:{receiver.port}"
    assert request.headers["webhook-id"] == "msg_1"
