"""JWTs of an identity provider: valid ones, and every kind of invalid one."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from app.auth.jwt import IdentityProvider
from app.auth.tokens import Authenticator
from app.domain.caller import Scope
from app.errors import Unauthenticated
from tests.security.identity_provider import (
    AUDIENCE,
    ISSUER,
    KEY,
    OTHER_KEY,
    Change,
    Door,
    jwks,
    settings,
)
from tests.service import Service, level, running, sku, warehouse

CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


async def test_a_valid_jwt_identifies_the_caller(door: Door) -> None:
    principal = await door.authenticator.authenticate(f"Bearer {door.token()}")

    assert principal.tenant_id == door.tenant_id
    assert principal.subject == f"jwt_{ISSUER} user-7"
    assert principal.email == "seven@example.com"
    assert principal.scopes == {Scope.WRITE}
    assert principal.expires_at is not None
    assert principal.warehouse_ids is None


GOOD: dict[str, Change] = {
    "an audience among others": lambda claims, _: claims.update(aud=["other", AUDIENCE]),
    "scopes as a list": lambda claims, _: claims.update(scope=["inventory:write", "x"]),
    "a type of access tokens": lambda _, header: header.update(typ="at+jwt"),
    "a clock a little ahead": lambda claims, _: claims.update(iat=int(time.time()) + 5),
    "an end a moment ago": lambda claims, _: claims.update(exp=int(time.time()) - 5),
    "claims with an unknown name": lambda claims, _: claims.update(x={"y": [1]}),
}


@pytest.mark.parametrize("what", GOOD)
async def test_a_harmless_variation_is_accepted(door: Door, what: str) -> None:
    principal = await door.authenticator.authenticate(f"Bearer {door.token(GOOD[what])}")

    assert principal.scopes == {Scope.WRITE}


BOUND: dict[str, Change] = {
    "a list": lambda claims, _: claims.update(inventory_warehouses=["wh_1", "wh_2", 3]),
    "a text": lambda claims, _: claims.update(inventory_warehouses="wh_1 wh_2"),
    "with every scope": lambda claims, _: claims.update(
        inventory_warehouses=["wh_2", "wh_1"], scope="inventory:write inventory:admin"
    ),
}


@pytest.mark.parametrize("what", BOUND)
async def test_a_claim_binds_a_jwt_to_warehouses_and_takes_admin_from_it(
    door: Door, what: str
) -> None:
    principal = await door.authenticator.authenticate(f"Bearer {door.token(BOUND[what])}")

    assert principal.warehouse_ids == frozenset({"wh_1", "wh_2"})
    assert principal.scopes == {Scope.WRITE}


@pytest.mark.parametrize(
    "value", [None, [], "", " ", [3], {}, 5, True, [f"{n}" for n in range(101)]]
)
async def test_a_jwt_with_a_malformed_claim_of_warehouses_is_refused(
    door: Door, value: object
) -> None:
    token = door.token(lambda claims, _: claims.update(inventory_warehouses=value))
    with pytest.raises(Unauthenticated):
        await door.authenticator.authenticate(f"Bearer {token}")


NAMELESS: dict[str, Change] = {
    "none": lambda claims, _: claims.pop("email"),
    "null": lambda claims, _: claims.update(email=None),
    "one that the user chose": lambda claims, _: claims.update(email_verified=False),
    "one that the user chose, in words": lambda claims, _: claims.update(email_verified="false"),
}


@pytest.mark.parametrize("what", NAMELESS)
async def test_without_a_verified_email_the_subject_is_the_author(door: Door, what: str) -> None:
    token = door.token(NAMELESS[what])

    assert (await door.authenticator.authenticate(f"Bearer {token}")).email == "user-7"


BAD_CLAIMS: dict[str, Change] = {
    "no end": lambda claims, _: claims.pop("exp"),
    "no issuer": lambda claims, _: claims.pop("iss"),
    "no audience": lambda claims, _: claims.pop("aud"),
    "no subject": lambda claims, _: claims.pop("sub"),
    "no tenant": lambda claims, _: claims.pop("tenant"),
    "expired": lambda claims, _: claims.update(exp=int(time.time()) - 60),
    "expired long ago": lambda claims, _: claims.update(exp=1),
    "an end that is not a number": lambda claims, _: claims.update(exp="tomorrow"),
    "an end after the year 9999": lambda claims, _: claims.update(exp=10**18),
    "an endless end": lambda claims, _: claims.update(exp=float("inf")),
    "a start in the future": lambda claims, _: claims.update(nbf=int(time.time()) + 600),
    "issued in the future": lambda claims, _: claims.update(iat=int(time.time()) + 600),
    "another issuer": lambda claims, _: claims.update(iss="https://id.example"),
    "another audience": lambda claims, _: claims.update(aud="inventory2"),
    "an empty list of audiences": lambda claims, _: claims.update(aud=[]),
    "an audience that is not a string": lambda claims, _: claims.update(aud={"inventory": 1}),
    "an empty subject": lambda claims, _: claims.update(sub=""),
    "an endless subject": lambda claims, _: claims.update(sub="x" * 256),
    "a subject with NUL": lambda claims, _: claims.update(sub="user\x00"),
    "an unknown tenant": lambda claims, _: claims.update(tenant="nobody"),
    "a tenant that is not a string": lambda claims, _: claims.update(tenant=["t"]),
    "a tenant with NUL": lambda claims, _: claims.update(tenant="t\x00"),
    "an email with a line break": lambda claims, _: claims.update(email="a@b\nc"),
    "an email of too many bytes": lambda claims, _: claims.update(email="\U00020000" * 64),
    "an email that is not a string": lambda claims, _: claims.update(email=7),
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
async def test_a_jwt_with_one_wrong_claim_is_refused(door: Door, what: str) -> None:
    token = door.token(BAD_CLAIMS[what])

    with pytest.raises(Unauthenticated):
        await door.authenticator.authenticate(f"Bearer {token}")


def encoded(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def tampered(token: str) -> dict[str, str]:
    """Forgeries of a valid token without its key."""
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
        "a head that is not JSON": f"{encoded(b'x')}.{body}.{signature}",
        "a head that is a list": f"{encoded([1])}.{body}.{signature}",
        "a body that is not JSON": f"{head}.{encoded(b'x')}.{signature}",
        "nothing but dots": "..",
        "padding": f"{head}==.{body}.{signature}",
        "endless": f"{head}.{encoded({**claims, 'x': 'x' * 10_000})}.{signature}",
    }


@pytest.mark.parametrize("what", tampered("e30.e30.x"))
async def test_a_forged_jwt_is_refused(door: Door, what: str) -> None:
    token = tampered(door.token())[what]

    with pytest.raises(Unauthenticated):
        await door.authenticator.authenticate(f"Bearer {token}")


@pytest.mark.parametrize("named", ["one", "evil"])
async def test_keys_embedded_in_a_jwt_are_ignored(door: Door, named: str) -> None:
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
async def test_a_provider_may_sign_with_elliptic_curves(
    service: Service, tmp_path: Path, family: str, algorithm: str, key: Any, public: dict[str, Any]
) -> None:
    path = tmp_path / "curves.json"
    path.write_text(json.dumps({"keys": [*jwks(rsa=KEY)["keys"], {**public, "kid": "one"}]}))
    provider = IdentityProvider(settings(str(path), jwt_family=family))
    authenticator = Authenticator(service.database, cache_seconds=0, provider=provider)
    door = Door(authenticator, service.tenant_id)

    token = door.token(lambda _, header: header.update(alg=algorithm), key)
    assert (await authenticator.authenticate(f"Bearer {token}")).scopes == {Scope.WRITE}
    of_another_family = door.token(lambda _, header: header.update(kid="rsa"))
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(f"Bearer {of_another_family}")


async def test_a_jwt_is_refused_without_a_configured_provider(service: Service) -> None:
    authenticator = Authenticator(service.database, cache_seconds=0)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(f"Bearer {Door(authenticator, service.tenant_id).token()}")


async def test_both_apis_accept_a_jwt_with_its_scopes(
    service: Service, database_url: str, keys_file: Path
) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])
    door = Door(Authenticator(service.database, cache_seconds=0), service.tenant_id)
    options = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(keys_file)}
    async with running(database_url, **options) as (app, client):
        shop = Service(app, client, app.state.database, service.tenant_id)
        body = {"warehouse_id": main.id, "quantity": 7, "reason": "cycle_count"}
        written = await shop.rest("PUT", "/api/inventory/A", token=door.token(), json=body)
        reading = door.token(lambda claims, _: claims.update(scope="inventory:read"))
        refused = await shop.rest("PUT", "/api/inventory/A", token=reading, json=body)
        query = "{ adjustments(first: 1) { nodes { createdBy afterQuantity } } }"
        data = await shop.data(query, token=reading)
        frontend = door.token(lambda claims, _: claims.update(scope="inventory:availability"))
        shown = await shop.rest("GET", "/api/availability", token=frontend)
        hidden = await shop.rest("GET", "/api/inventory", token=frontend)
        nothing = await shop.rest(
            "GET", "/api/inventory", token=door.token(lambda claims, _: claims.update(scope="x"))
        )

    assert (written.status_code, refused.status_code, nothing.status_code) == (200, 403, 403)
    assert (shown.json()["data"][0]["available"], hidden.status_code) == (7, 403)
    assert data["adjustments"]["nodes"] == [{"createdBy": "seven@example.com", "afterQuantity": 7}]
