"""Fixtures of the security tests."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.auth.jwt import ALGORITHMS_BY_FAMILY, IdentityProvider, KeySet
from app.auth.tokens import Authenticator
from app.ledger.verification import verify_tenant
from tests.security.identity_provider import (
    KEY,
    Door,
    Provider,
    hold,
    jwks,
    provider_on_http,
    settings,
)
from tests.security.stock_requests import AMAZON, MAIN
from tests.service import Service, level, sku


@pytest.fixture
async def stocked(service: Service) -> AsyncIterator[Service]:
    """Service with stock, which is verified after the attack."""
    codes = ("A", "B", "Ä", "C/1")
    await service.load(
        [MAIN, AMAZON], [sku(code, level(MAIN, 5), level(AMAZON, 3)) for code in codes]
    )
    yield service
    await verify_tenant(service.database, service.tenant_id)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """File with the keys of the identity provider."""
    path = tmp_path / "jwks.json"
    hold(path, json.dumps(jwks(one=KEY)))
    return path


@pytest.fixture
def door(service: Service, keys_file: Path) -> Door:
    """Return an authenticator with keys from a file."""
    provider = IdentityProvider(settings(str(keys_file)))
    return Door(
        Authenticator(service.database, cache_seconds=0, provider=provider), service.tenant_id
    )


@pytest.fixture
async def remote(service: Service) -> AsyncIterator[tuple[Door, Provider]]:
    """Yield an authenticator with keys from a key server, and the server."""
    with provider_on_http() as provider:
        provider.keys = jwks(one=KEY)
        identity = IdentityProvider(settings(provider.url))
        authenticator = Authenticator(service.database, cache_seconds=0, provider=identity)
        yield Door(authenticator, service.tenant_id), provider


@pytest.fixture
def key_set() -> Iterator[tuple[KeySet, Provider]]:
    """Key set that was not fetched yet, and its provider."""
    with provider_on_http() as provider:
        provider.keys = jwks(one=KEY)
        yield KeySet(provider.url, ALGORITHMS_BY_FAMILY["RS"]), provider
