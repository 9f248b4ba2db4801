"""Tokens: hashed, expiring, revocable, and of one tenant."""

import asyncio
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Row, select

from app.auth.tokens import Authenticator, token_hash
from app.database.tables import api_token
from app.domain.caller import Scope
from app.errors import NotFound, Unauthenticated
from app.files.seeding import LoadedLevel
from app.maintenance import record_token_uses
from app.writes.tenants import create_token, revoke_token, rotate_token
from rest_shim.streaming import STREAM_PAGE
from tests.engines import reader_of
from tests.service import EMAIL, Service, counted, new_tenant, running, sku, warehouse

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
    """Return authenticator with a token cache of `seconds`."""
    return Authenticator(service.database, cache_seconds=seconds)


@pytest.mark.parametrize("what", BAD)
async def test_an_invalid_credential_is_refused(service: Service, what: str) -> None:
    token = service.token("read")
    header = BAD[what]
    if header is not None:
        secret = token.partition("-")[2]
        header = header.format(token=token, shorter=token[:-1], upper=token.upper(), secret=secret)

    with pytest.raises(Unauthenticated):
        await authenticator(service).authenticate(header)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_token_identifies_the_caller(service: Service, scheme: str) -> None:
    principal = await authenticator(service).authenticate(f"{scheme} {service.token('write')}")

    assert principal.tenant_id == service.tenant_id
    assert principal.email == EMAIL
    assert principal.scopes == {Scope.WRITE}


async def test_a_new_token_is_long_and_stored_as_a_hash(service: Service) -> None:
    made = await create_token(
        service.database, service.tenant_id, name="x", email=EMAIL, scopes=[Scope.READ]
    )
    by_id = api_token.c.id == made.id
    async with reader_of(service.database).connect() as connection:
        [row] = (await connection.execute(select(api_token).where(by_id))).all()

    assert made.token.startswith(f"inv_{service.tenant_id}-")
    assert len(made.token.partition("-")[2]) >= 43
    assert row.token_hash == token_hash(made.token)
    assert all(made.token not in str(value) for value in row)


async def test_an_expired_token_is_refused(service: Service) -> None:
    made = await create_token(
        service.database,
        service.tenant_id,
        name="x",
        email=EMAIL,
        scopes=[Scope.READ],
        expires_in=timedelta(seconds=-1),
    )
    answer = await service.rest("GET", "/api/inventory", token=made.token)

    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "The token is unknown, expired or revoked."


async def test_a_revoked_token_is_refused(service: Service) -> None:
    made = await create_token(
        service.database, service.tenant_id, name="x", email=EMAIL, scopes=[Scope.READ]
    )
    assert (await service.rest("GET", "/api/inventory", token=made.token)).status_code == 200
    await revoke_token(service.database, service.tenant_id, made.id)

    assert (await service.rest("GET", "/api/inventory", token=made.token)).status_code == 401


async def test_a_cached_token_expires(service: Service) -> None:
    trusting = authenticator(service, seconds=30)
    made = await create_token(
        service.database,
        service.tenant_id,
        name="x",
        email=EMAIL,
        scopes=[Scope.READ],
        expires_in=timedelta(hours=1),
    )
    header = f"Bearer {made.token}"
    principal = await trusting.authenticate(header)
    digest = token_hash(made.token)
    checked_at, _ = trusting._cache[digest]
    late = principal.__class__(
        tenant_id=principal.tenant_id,
        subject=principal.subject,
        email=principal.email,
        scopes=principal.scopes,
        cursor_key=principal.cursor_key,
        expires_at=principal.expires_at - timedelta(hours=2) if principal.expires_at else None,
    )
    trusting._cache[digest] = (checked_at, late)

    with pytest.raises(Unauthenticated):
        await trusting.authenticate(header)


async def test_a_token_belongs_to_the_tenant_in_its_prefix(service: Service) -> None:
    other = await new_tenant(service.database)
    principal = await authenticator(service).authenticate(f"Bearer inv_{other}-read")

    assert principal.tenant_id == other


async def test_a_tenant_cannot_revoke_anothers_token(service: Service) -> None:
    other = await new_tenant(service.database)
    made = await create_token(service.database, other, name="x", email=EMAIL, scopes=[Scope.READ])

    with pytest.raises(Exception, match="has no token"):
        await revoke_token(service.database, service.tenant_id, made.id)
    assert (await service.rest("GET", "/api/inventory", token=made.token)).status_code == 200


async def test_the_last_use_of_a_token_is_stored(service: Service) -> None:
    checks = authenticator(service)
    await checks.authenticate(f"Bearer {service.token('read')}")
    before = await _tokens(service)
    await record_token_uses(service.database, checks)
    after = await _tokens(service)

    assert {row.last_used_at for row in before} == {None}
    assert {row.name for row in after if row.last_used_at is not None} == {"READ"}
    assert checks.take_last_uses() == {}


async def test_a_stopping_service_stores_the_last_uses(service: Service, database_url: str) -> None:
    async with running(database_url) as (app, client), app.router.lifespan_context(app):
        shop = Service(app, client, app.state.database, service.tenant_id)
        assert (await shop.rest("GET", "/api/inventory", token="write")).status_code == 200

    used = {row.name for row in await _tokens(service) if row.last_used_at is not None}
    assert used == {"WRITE"}


@pytest.mark.parametrize("expires_in", [None, timedelta(days=30), timedelta(minutes=5)])
async def test_a_rotated_token_copies_the_old_token_which_ends_after_the_overlap(
    service: Service, expires_in: timedelta | None
) -> None:
    old = await create_token(
        service.database,
        service.tenant_id,
        name="shop",
        email=EMAIL,
        scopes=[Scope.WRITE],
        expires_in=expires_in,
    )
    overlap = timedelta(hours=1)
    new = await rotate_token(service.database, service.tenant_id, old.id, overlap=overlap)
    kept = {row.id: row for row in await _tokens(service)}
    checks = authenticator(service)

    for token in (old.token, new.token):
        assert (await checks.authenticate(f"Bearer {token}")).scopes == {Scope.WRITE}
    assert (kept[new.id].name, kept[new.id].email) == ("shop", EMAIL)
    ends = kept[old.id].expires_at
    assert ends <= datetime.now(UTC) + overlap
    assert old.expires_at is None or ends <= old.expires_at
    if expires_in is None:
        assert new.expires_at is None
    else:
        assert new.expires_at is not None
        assert abs(new.expires_at - datetime.now(UTC) - expires_in) < timedelta(minutes=1)


async def test_without_an_overlap_the_old_token_ends_at_once(service: Service) -> None:
    old = await create_token(
        service.database, service.tenant_id, name="x", email=EMAIL, scopes=[Scope.READ]
    )
    await rotate_token(service.database, service.tenant_id, old.id, overlap=timedelta())

    with pytest.raises(Unauthenticated):
        await authenticator(service).authenticate(f"Bearer {old.token}")
    with pytest.raises(NotFound):
        await rotate_token(service.database, service.tenant_id, old.id, overlap=timedelta())


async def test_a_token_of_another_tenant_cannot_be_rotated(service: Service) -> None:
    other = await new_tenant(service.database)
    [token_id, *_] = [row.id for row in await _tokens(service)]

    with pytest.raises(NotFound):
        await rotate_token(service.database, other, token_id, overlap=timedelta())


async def test_revoked_token_stops_a_running_stream(service: Service) -> None:
    main = warehouse()
    # One page is sent, and the next is read at the same time.
    history = [counted(number) for number in range(2 * STREAM_PAGE + 1)]
    await service.load([main], [sku("A", LoadedLevel(warehouse_id=main.id, history=history))])
    token = await create_token(
        service.database, service.tenant_id, name="x", email=EMAIL, scopes=[Scope.READ]
    )
    headers = {"Authorization": f"Bearer {token.token}"}
    seen: list[bytes] = []

    async def receive() -> Any:
        return await asyncio.get_running_loop().create_future()

    async def send(message: MutableMapping[str, Any]) -> None:
        seen.append(message.get("body", b""))
        if len(seen) == 2:
            await revoke_token(service.database, service.tenant_id, token.id)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/inventory/A/adjustments",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await service.app(scope, receive, send)

    assert b'"after_quantity":4000' in b"".join(seen)
    assert not b"".join(seen).endswith(b"]}")
    assert b'"after_quantity":0,' not in b"".join(seen)


async def _tokens(service: Service) -> Sequence[Row[Any]]:
    of_tenant = api_token.c.tenant_id == service.tenant_id
    async with reader_of(service.database).connect() as connection:
        return (await connection.execute(select(api_token).where(of_tenant))).all()
