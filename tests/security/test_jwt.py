"""JWTs of an identity provider: one that is good, and every way to be bad."""

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import jwt
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.auth import jwt as identity
from app.auth.jwt import FAMILIES, MAX_DOCUMENT_BYTES, IdentityProvider, KeySet
from app.auth.tokens import Authenticator
from app.domain.caller import Scope
from app.errors import Unauthenticated, Unavailable
from app.settings import Settings
from tests.service import Service, level, running, sku, warehouse

ISSUER = "https://id.example/"
AUDIENCE = "inventory"
KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()

Change = Callable[[dict[str, Any], dict[str, Any]], object]


def jwks(**keys: rsa.RSAPrivateKey) -> dict[str, Any]:
    """Return the public halves of keys by their ids."""
    found = []
    for id_, key in keys.items():
        public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        found.append({**public, "kid": id_, "use": "sig", "alg": "RS256"})
    return {"keys": found}


def settings(source: str, **options: Any) -> Settings:
    return Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=source, **options)


@dataclass(frozen=True)
class Door:
    """What checks the tokens of a provider, and a tenant that they name."""

    authenticator: Authenticator
    tenant: str

    def token(self, change: Change = lambda _claims, _header: None, key: Any = KEY) -> str:
        """Return a good token, or one that is changed in one way."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "user-7",
            "exp": now + 300,
            "iat": now,
            "tenant": self.tenant,
            "scope": "openid inventory:write",
            "email": "seven@example.com",
        }
        header: dict[str, Any] = {"kid": "one", "alg": "RS256", "typ": "JWT"}
        change(claims, header)
        algorithm = header.get("alg")
        return jwt.encode(claims, key, algorithm=algorithm, headers=header)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    hold(path, json.dumps(jwks(one=KEY)))
    return path


def hold(path: Path, content: str | bytes) -> None:
    """Have a file hold a text."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def door(service: Service, keys_file: Path) -> Door:
    provider = IdentityProvider(settings(str(keys_file)))
    return Door(Authenticator(service.database, cache_seconds=0, provider=provider), service.tenant)


async def test_a_good_token_says_who_asks(door: Door) -> None:
    principal = await door.authenticator.authenticate(f"Bearer {door.token()}")

    assert principal.tenant_id == door.tenant
    assert principal.subject == f"jwt_{ISSUER} user-7"
    assert principal.email == "seven@example.com"
    assert principal.scopes == {Scope.WRITE}
    assert principal.expires_at is not None


GOOD: dict[str, Change] = {
    "an audience among others": lambda claims, _: claims.update(aud=["other", AUDIENCE]),
    "scopes as a list": lambda claims, _: claims.update(scope=["inventory:write", "x"]),
    "a type of access tokens": lambda _, header: header.update(typ="at+jwt"),
    "a clock a little ahead": lambda claims, _: claims.update(iat=int(time.time()) + 5),
    "an end a moment ago": lambda claims, _: claims.update(exp=int(time.time()) - 5),
    "claims that nobody knows": lambda claims, _: claims.update(x={"y": [1]}),
}


@pytest.mark.parametrize("what", GOOD)
async def test_what_is_no_fault_is_let_through(door: Door, what: str) -> None:
    principal = await door.authenticator.authenticate(f"Bearer {door.token(GOOD[what])}")

    assert principal.scopes == {Scope.WRITE}


NAMELESS: dict[str, Change] = {
    "none": lambda claims, _: claims.pop("email"),
    "null": lambda claims, _: claims.update(email=None),
    "one that the user chose": lambda claims, _: claims.update(email_verified=False),
    "one that the user chose, in words": lambda claims, _: claims.update(email_verified="false"),
}


@pytest.mark.parametrize("what", NAMELESS)
async def test_without_an_email_of_which_the_provider_is_sure_the_ledger_names_the_subject(
    door: Door, what: str
) -> None:
    token = door.token(NAMELESS[what])

    assert (await door.authenticator.authenticate(f"Bearer {token}")).email == "user-7"


BAD_CLAIMS: dict[str, Change] = {
    "no end": lambda claims, _: claims.pop("exp"),
    "no issuer": lambda claims, _: claims.pop("iss"),
    "no audience": lambda claims, _: claims.pop("aud"),
    "no subject": lambda claims, _: claims.pop("sub"),
    "no tenant": lambda claims, _: claims.pop("tenant"),
    "it is over": lambda claims, _: claims.update(exp=int(time.time()) - 60),
    "it was over long ago": lambda claims, _: claims.update(exp=1),
    "an end that is no number": lambda claims, _: claims.update(exp="tomorrow"),
    "an end beyond all time": lambda claims, _: claims.update(exp=10**18),
    "an endless end": lambda claims, _: claims.update(exp=float("inf")),
    "not before later": lambda claims, _: claims.update(nbf=int(time.time()) + 600),
    "issued later": lambda claims, _: claims.update(iat=int(time.time()) + 600),
    "another issuer": lambda claims, _: claims.update(iss="https://id.example"),
    "another audience": lambda claims, _: claims.update(aud="inventory2"),
    "no audience in the list": lambda claims, _: claims.update(aud=[]),
    "an audience that is no text": lambda claims, _: claims.update(aud={"inventory": 1}),
    "an empty subject": lambda claims, _: claims.update(sub=""),
    "an endless subject": lambda claims, _: claims.update(sub="x" * 256),
    "a subject with NUL": lambda claims, _: claims.update(sub="user\x00"),
    "a tenant that is nobody": lambda claims, _: claims.update(tenant="nobody"),
    "a tenant that is no text": lambda claims, _: claims.update(tenant=["t"]),
    "a tenant with NUL": lambda claims, _: claims.update(tenant="t\x00"),
    "an email with a line break": lambda claims, _: claims.update(email="a@b\nc"),
    "an email that is no text": lambda claims, _: claims.update(email=7),
    "no key id": lambda _, header: header.update(kid=None) or header.pop("kid"),
    "an unknown key id": lambda _, header: header.update(kid="two"),
    "a path as key id": lambda _, header: header.update(kid="../../../dev/null"),
    "a query as key id": lambda _, header: header.update(kid="one' OR 1=1 --"),
    "a type that is a list": lambda _, header: header.update(typ=["JWT"]),
    "a type that is an object": lambda _, header: header.update(typ={"JWT": 1}),
    "another kind of token": lambda _, header: header.update(typ="logout+jwt"),
    "an extension that is critical": lambda _, header: header.update(crit=["x"], x=1),
    "another algorithm of the family": lambda _, header: header.update(alg="RS512"),
    "another family": lambda _, header: header.update(alg="PS256"),
}


@pytest.mark.parametrize("what", BAD_CLAIMS)
async def test_a_token_that_is_wrong_in_one_way_opens_nothing(door: Door, what: str) -> None:
    token = door.token(BAD_CLAIMS[what])

    with pytest.raises(Unauthenticated):
        await door.authenticator.authenticate(f"Bearer {token}")


def encoded(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def tampered(token: str) -> dict[str, str]:
    """Return what can be made of a good token without its key."""
    head, body, signature = token.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    symmetric = f"{encoded({**header, 'alg': 'HS256'})}.{body}"
    mac = hmac.new(public, symmetric.encode(), hashlib.sha256).digest()
    unsigned = encoded({**header, "alg": "none"})
    changed = ("B" if signature[0] == "A" else "A") + signature[1:]
    raised = encoded({**claims, "scope": "inventory:admin"})
    return {
        "no algorithm": f"{unsigned}.{body}.",
        "no algorithm, in capitals": f"{encoded({**header, 'alg': 'NONE'})}.{body}.",
        "no algorithm, with a signature": f"{unsigned}.{body}.{signature}",
        "the public key as a secret": f"{symmetric}.{encoded(mac)}",
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{raised}.{signature}",
        "half a signature": f"{head}.{body}.{signature[: len(signature) // 2]}",
        "a changed signature": f"{head}.{body}.{changed}",
        "a part too many": f"{token}.{signature}",
        "a part too few": f"{head}.{body}",
        "a head that is no JSON": f"{encoded(b'x')}.{body}.{signature}",
        "a head that is a list": f"{encoded([1])}.{body}.{signature}",
        "a body that is no JSON": f"{head}.{encoded(b'x')}.{signature}",
        "nothing but dots": "..",
        "padding": f"{head}==.{body}.{signature}",
        "endless": f"{head}.{encoded({**claims, 'x': 'x' * 10_000})}.{signature}",
    }


@pytest.mark.parametrize("what", tampered("e30.e30.x"))
async def test_what_is_made_without_the_key_opens_nothing(door: Door, what: str) -> None:
    token = tampered(door.token())[what]

    with pytest.raises(Unauthenticated):
        await door.authenticator.authenticate(f"Bearer {token}")


@pytest.mark.parametrize("named", ["one", "evil"])
async def test_the_keys_that_a_token_brings_along_are_not_looked_at(door: Door, named: str) -> None:
    public = jwks(evil=OTHER_KEY)["keys"][0]

    def bring(_claims: dict[str, Any], header: dict[str, Any]) -> None:
        address = "http://127.0.0.1:9/evil.json"
        header.update(kid=named, jwk=public, jku=address, x5u=address, x5c=["x"])

    with pytest.raises(Unauthenticated):
        await door.authenticator.authenticate(f"Bearer {door.token(bring, key=OTHER_KEY)}")


@pytest.mark.parametrize(
    ("family", "algorithm", "key", "public"),
    [
        ("ES", "ES256", CURVE, ECAlgorithm.to_jwk(CURVE.public_key(), as_dict=True)),
        ("EdDSA", "EdDSA", EDWARDS, OKPAlgorithm.to_jwk(EDWARDS.public_key(), as_dict=True)),
    ],
)
async def test_a_provider_may_sign_by_curves(
    service: Service, tmp_path: Path, family: str, algorithm: str, key: Any, public: dict[str, Any]
) -> None:
    path = tmp_path / "curves.json"
    path.write_text(json.dumps({"keys": [*jwks(rsa=KEY)["keys"], {**public, "kid": "one"}]}))
    provider = IdentityProvider(settings(str(path), jwt_family=family))
    authenticator = Authenticator(service.database, cache_seconds=0, provider=provider)
    door = Door(authenticator, service.tenant)

    token = door.token(lambda _, header: header.update(alg=algorithm), key)
    assert (await authenticator.authenticate(f"Bearer {token}")).scopes == {Scope.WRITE}
    of_another_family = door.token(lambda _, header: header.update(kid="rsa"))
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(f"Bearer {of_another_family}")


async def test_a_token_opens_nothing_where_no_provider_is_configured(service: Service) -> None:
    authenticator = Authenticator(service.database, cache_seconds=0)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(f"Bearer {Door(authenticator, service.tenant).token()}")


@dataclass
class Provider:
    """A provider's key server, and how often it was asked."""

    url: str = ""
    keys: Any = None
    status: int = 200
    asked: int = 0
    location: str = ""
    document: bytes | None = None


@contextmanager
def provider_on_http() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            self.send_response(provider.status)
            if provider.location:
                self.send_header("Location", provider.location)
            self.end_headers()
            with suppress(ConnectionError):
                document = provider.document
                self.wfile.write(
                    json.dumps(provider.keys).encode() if document is None else document
                )

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield provider
        server.shutdown()
        thread.join()


@pytest.fixture
async def remote(service: Service) -> AsyncIterator[tuple[Door, Provider]]:
    with provider_on_http() as provider:
        provider.keys = jwks(one=KEY)
        identity = IdentityProvider(settings(provider.url))
        authenticator = Authenticator(service.database, cache_seconds=0, provider=identity)
        yield Door(authenticator, service.tenant), provider


@pytest.fixture
def key_set() -> Iterator[tuple[KeySet, Provider]]:
    """Return keys that were not fetched yet, and their provider."""
    with provider_on_http() as provider:
        provider.keys = jwks(one=KEY)
        yield KeySet(provider.url, FAMILIES["RS"]), provider


def keys_of(door: Door) -> KeySet:
    """Return the keys that a door knows."""
    assert door.authenticator._provider is not None
    return door.authenticator._provider._keys


def grow_old(door: Door, seconds: float) -> None:
    """Let time pass for the keys."""
    keys_of(door)._asked_at -= seconds


async def refreshed(keys: KeySet) -> None:
    """Wait for the refresh in the background."""
    if keys._refreshing is not None:
        await keys._refreshing


async def test_keys_are_fetched_once_and_again_for_a_new_one(remote: tuple[Door, Provider]) -> None:
    door, provider = remote
    for _ in range(3):
        await door.authenticator.authenticate(f"Bearer {door.token()}")
    assert provider.asked == 1

    provider.keys = jwks(two=OTHER_KEY)
    rotated = door.token(lambda _, header: header.update(kid="two"), OTHER_KEY)
    grow_old(door, 11)
    principal = await door.authenticator.authenticate(f"Bearer {rotated}")

    assert principal.tenant_id == door.tenant
    assert provider.asked == 2
    with pytest.raises(Unauthenticated):
        await door.authenticator.authenticate(f"Bearer {door.token()}")


async def test_unknown_key_ids_make_no_storm(remote: tuple[Door, Provider]) -> None:
    door, provider = remote
    await door.authenticator.authenticate(f"Bearer {door.token()}")
    for number in range(20):
        token = door.token(lambda _, header, number=number: header.update(kid=f"k{number}"))  # type: ignore[misc]
        with pytest.raises(Unauthenticated):
            await door.authenticator.authenticate(f"Bearer {token}")

    assert provider.asked == 1


@pytest.mark.parametrize("answer", [{"keys": []}, {"keys": "x"}, [], "x", None, {"keys": [{}]}])
async def test_the_last_good_keys_are_kept_while_the_provider_is_ill(
    remote: tuple[Door, Provider], answer: object
) -> None:
    door, provider = remote
    await door.authenticator.authenticate(f"Bearer {door.token()}")
    provider.keys, provider.status = answer, 200 if answer else 500
    grow_old(door, 1_000)

    for _ in range(3):
        assert await door.authenticator.authenticate(f"Bearer {door.token()}")
        await refreshed(keys_of(door))
    assert provider.asked == 2


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
    "a curve that nobody knows": {"kty": "EC", "crv": "P-1", "x": "AA", "y": "AA", "kid": "one"},
    "a point beside its curve": {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "one"},
    "a secret": {"kty": "oct", "k": "AAAA", "kid": "one"},
}


@pytest.mark.parametrize("what", ODD_KEYS)
async def test_an_odd_key_opens_nothing_and_hides_no_good_one(
    key_set: tuple[KeySet, Provider], what: str
) -> None:
    keys, provider = key_set
    provider.keys = {"keys": [ODD_KEYS[what]]}
    with pytest.raises(Unavailable):
        await keys.key("one")

    provider.keys = {"keys": [ODD_KEYS[what], GOOD_KEY]}
    keys._asked_at -= 11
    assert await keys.key("one")


async def test_a_key_that_cannot_verify_makes_a_token_bad(
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
async def test_an_odd_document_is_an_absent_provider(
    key_set: tuple[KeySet, Provider], tmp_path: Path, what: str
) -> None:
    remote, provider = key_set
    provider.document = DOCUMENTS[what]
    file = tmp_path / "jwks.json"
    hold(file, DOCUMENTS[what])
    for keys in (remote, KeySet(str(file), FAMILIES["RS"])):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await keys.key("one")

    assert provider.asked == 1


@pytest.mark.parametrize("source", ["/dev/zero", "/", "/nowhere", "ftp://127.0.0.1/", "http://[/"])
async def test_a_source_that_holds_no_document_is_an_absent_provider(source: str) -> None:
    with pytest.raises(Unavailable):
        await KeySet(source, FAMILIES["RS"]).key("one")


@pytest.mark.parametrize("scheme", ["http", "ftp", "file"])
async def test_no_redirect_is_followed(key_set: tuple[KeySet, Provider], scheme: str) -> None:
    keys, provider = key_set
    provider.status, provider.location = 302, f"{scheme}{provider.url.removeprefix('http')}"

    with pytest.raises(Unavailable):
        await keys.key("one")
    assert provider.asked == 1


async def test_forged_key_ids_ask_an_absent_provider_once(remote: tuple[Door, Provider]) -> None:
    door, provider = remote
    await door.authenticator.authenticate(f"Bearer {door.token()}")
    provider.status = 500
    grow_old(door, 11)
    for number in range(20):
        token = door.token(lambda _, header, number=number: header.update(kid=f"k{number}"))  # type: ignore[misc]
        with pytest.raises(Unauthenticated):
            await door.authenticator.authenticate(f"Bearer {token}")
    assert await door.authenticator.authenticate(f"Bearer {door.token()}")

    assert provider.asked == 2


DRIPS: Final = {
    "nothing": b"",
    "a status line": b"HTTP/1.1 200 OK\r\n",
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
}


@asynccontextmanager
async def dripping(begin: bytes) -> AsyncIterator[tuple[str, asyncio.Queue[str]]]:
    """Serve an answer that never ends, and tell when connections come and go."""
    events: asyncio.Queue[str] = asyncio.Queue()

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

    async def _gone(reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/jwks.json", events


@pytest.mark.parametrize("what", DRIPS)
async def test_a_provider_that_drips_is_left_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(identity, "FETCH_SECONDS", 0.1)
    async with dripping(DRIPS[what]) as (url, events):
        keys = KeySet(url, FAMILIES["RS"])
        threads = set(threading.enumerate())
        for _ in range(3):
            with pytest.raises(Unavailable):
                await keys.key("one")
        async with asyncio.timeout(30):
            assert [await events.get(), await events.get()] == ["came", "went"]

        assert events.empty()
        assert set(threading.enumerate()) <= threads


async def test_a_known_key_waits_for_no_refresh(key_set: tuple[KeySet, Provider]) -> None:
    keys, provider = key_set
    await keys.key("one")
    async with dripping(b"") as (url, events):
        keys._source = url
        keys._asked_at -= 1_000
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
    assert provider.asked == 1


async def test_without_any_key_nobody_is_told_that_a_token_is_bad(service: Service) -> None:
    identity = IdentityProvider(settings("http://127.0.0.1:9/jwks.json"))
    authenticator = Authenticator(service.database, cache_seconds=0, provider=identity)

    with pytest.raises(Unavailable):
        await authenticator.authenticate(f"Bearer {Door(authenticator, service.tenant).token()}")


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "null", '"x"', '{"keys": 1}', "\x00", '{"keys": [1]}']
)
async def test_a_file_that_holds_no_keys_tells_nobody_that_a_token_is_bad(
    door: Door, keys_file: Path, text: str
) -> None:
    hold(keys_file, text)
    with pytest.raises(Unavailable):
        await door.authenticator.authenticate(f"Bearer {door.token()}")

    # What was good is kept, too, while the file is being replaced.
    hold(keys_file, json.dumps(jwks(one=KEY)))
    grow_old(door, 1_000)
    assert await door.authenticator.authenticate(f"Bearer {door.token()}")
    hold(keys_file, text)
    grow_old(door, 1_000)
    for _ in range(2):
        assert await door.authenticator.authenticate(f"Bearer {door.token()}")
        await refreshed(keys_of(door))


async def test_both_faces_take_a_token_with_its_scopes(
    service: Service, database_url: str, keys_file: Path
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    door = Door(Authenticator(service.database, cache_seconds=0), service.tenant)
    options = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(keys_file)}
    async with running(database_url, **options) as (app, client):
        shop = Service(app, client, app.state.database, service.tenant)
        body = {"warehouse_id": main.id, "quantity": 7, "reason": "cycle_count"}
        written = await shop.rest("PUT", "/api/inventory/A", token=door.token(), json=body)
        reading = door.token(lambda claims, _: claims.update(scope="inventory:read"))
        refused = await shop.rest("PUT", "/api/inventory/A", token=reading, json=body)
        query = "{ adjustments(first: 1) { nodes { createdBy afterQuantity } } }"
        data = await shop.data(query, token=reading)
        nothing = await shop.rest(
            "GET", "/api/inventory", token=door.token(lambda claims, _: claims.update(scope="x"))
        )

    assert (written.status_code, refused.status_code, nothing.status_code) == (200, 403, 403)
    assert data["adjustments"]["nodes"] == [{"createdBy": "seven@example.com", "afterQuantity": 7}]
