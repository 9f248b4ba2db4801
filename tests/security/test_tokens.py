"""Tokens: hashed, expiring, revocable, and of one tenant."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.auth import Authenticator, Scope, hash_of
from app.commands.tenants import create_token, revoke_token
from app.errors import Unauthenticated
from app.models import api_token
from tests.service import EMAIL, Service, new_tenant

BAD = {
    "nothing": None,
    "an empty header": "",
    "another scheme": "Basic {token}",
    "no scheme": "{token}",
    "no token": "Bearer ",
    "a token and more": "Bearer {token} x",
    "two tokens": "Bearer {token},{token}",
    "a part of the token": "Bearer {shorter}",
    "a longer token": "Bearer {token}x",
    "another case": "Bearer {upper}",
    "a token of no tenant": "Bearer inv_nobody-{secret}",
    "a token of the empty tenant": "Bearer inv_-{secret}",
    "a token without a tenant": "Bearer {secret}",
    "a token that is not ASCII": "Bearer inv_té-x",
    "an endless token": "Bearer inv_a-" + "x" * 5_000,
    "a pattern": "Bearer inv_%-%",
}


def authenticator(service: Service, seconds: float = 0) -> Authenticator:
    """Return one that trusts what it has checked for some seconds."""
    return Authenticator(service.database, cache_seconds=seconds)


@pytest.mark.parametrize("what", BAD)
async def test_what_is_no_token_opens_nothing(service: Service, what: str) -> None:
    token = service.token("read")
    header = BAD[what]
    if header is not None:
        secret = token.partition("-")[2]
        header = header.format(token=token, shorter=token[:-1], upper=token.upper(), secret=secret)

    with pytest.raises(Unauthenticated):
        await authenticator(service).authenticate(header)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_token_says_who_asks(service: Service, scheme: str) -> None:
    principal = await authenticator(service).authenticate(f"{scheme} {service.token('write')}")

    assert principal.tenant == service.tenant
    assert principal.email == EMAIL
    assert principal.scopes == {Scope.WRITE}


async def test_a_new_token_is_long_recognisable_and_not_kept(service: Service) -> None:
    made = await create_token(
        service.database, service.tenant, name="x", email=EMAIL, scopes=[Scope.READ]
    )
    mine = api_token.c.id == made.id
    async with service.database.reader.connect() as connection:
        [row] = (await connection.execute(select(api_token).where(mine))).all()

    assert made.token.startswith(f"inv_{service.tenant}-")
    assert len(made.token.partition("-")[2]) >= 43
    assert row.token_hash == hash_of(made.token)
    assert all(made.token not in str(value) for value in row)


async def test_an_expired_token_opens_nothing(service: Service) -> None:
    made = await create_token(
        service.database,
        service.tenant,
        name="x",
        email=EMAIL,
        scopes=[Scope.READ],
        expires_in=timedelta(seconds=-1),
    )
    answer = await service.rest("GET", "/api/inventory", token=made.token)

    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "The token is unknown, expired or revoked."


async def test_a_revoked_token_opens_nothing(service: Service) -> None:
    made = await create_token(
        service.database, service.tenant, name="x", email=EMAIL, scopes=[Scope.READ]
    )
    assert (await service.rest("GET", "/api/inventory", token=made.token)).status_code == 200
    await revoke_token(service.database, service.tenant, made.id)

    assert (await service.rest("GET", "/api/inventory", token=made.token)).status_code == 401


async def test_a_trusted_token_expires_all_the_same(service: Service) -> None:
    trusting = authenticator(service, seconds=30)
    made = await create_token(
        service.database,
        service.tenant,
        name="x",
        email=EMAIL,
        scopes=[Scope.READ],
        expires_in=timedelta(hours=1),
    )
    header = f"Bearer {made.token}"
    principal = await trusting.authenticate(header)
    digest = hash_of(made.token)
    checked_at, _ = trusting._known[digest]
    late = principal.__class__(
        tenant=principal.tenant,
        subject=principal.subject,
        email=principal.email,
        scopes=principal.scopes,
        cursor_key=principal.cursor_key,
        expires_at=principal.expires_at - timedelta(hours=2) if principal.expires_at else None,
    )
    trusting._known[digest] = (checked_at, late)

    with pytest.raises(Unauthenticated):
        await trusting.authenticate(header)


async def test_a_token_of_another_tenant_is_a_token_of_that_tenant(service: Service) -> None:
    other = await new_tenant(service.database)
    principal = await authenticator(service).authenticate(f"Bearer inv_{other}-read")

    assert principal.tenant == other


async def test_a_tenant_cannot_revoke_anothers_token(service: Service) -> None:
    other = await new_tenant(service.database)
    made = await create_token(service.database, other, name="x", email=EMAIL, scopes=[Scope.READ])

    with pytest.raises(Exception, match="has no token"):
        await revoke_token(service.database, service.tenant, made.id)
    assert (await service.rest("GET", "/api/inventory", token=made.token)).status_code == 200
