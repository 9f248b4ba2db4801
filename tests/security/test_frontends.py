"""Pages of other origins that read availability, and the documents that they may send."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from app.domain.caller import Scope
from app.settings import Settings
from app.writes.tenants import create_token
from tests.service import EMAIL, Service, running

SHOP: Final = "availability"
ORIGIN: Final = "https://shop.example"
QUERY: Final = "{ availabilities { nodes { sku available } } }"
OTHER: Final = "{ availabilities { nodes { title } } }"


@pytest.mark.parametrize(("path", "method"), [("/graphql", "POST"), ("/api/availability", "GET")])
async def test_a_page_of_a_configured_origin_reads_availability(
    service: Service, database_url: str, path: str, method: str
) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    body: Any = {"json": {"query": QUERY}} if method == "POST" else {}
    async with running(database_url, cors_origins=ORIGIN, rate_limit="9/hour") as (app, client):
        shop = Service(app, client, app.state.database, service.tenant_id)
        preflight = await shop.rest("OPTIONS", path, token=None, headers=asked)
        answer = await shop.rest(method, path, token=SHOP, headers={"Origin": ORIGIN}, **body)

    assert preflight.status_code == 200
    assert preflight.headers["access-control-max-age"] == "7200"
    assert method in preflight.headers["access-control-allow-methods"].split(", ")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "Origin" in answer.headers["vary"]
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"RateLimit", "RateLimit-Policy", "X-Request-ID", "Retry-After"} <= set(exposed)
    assert {"ratelimit", "x-request-id"} <= set(answer.headers)


async def test_no_origin_may_send_credentials_of_the_browser(
    service: Service, database_url: str
) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    for origins in ("*", ORIGIN):
        async with running(database_url, cors_origins=origins) as (app, client):
            shop = Service(app, client, app.state.database, service.tenant_id)
            preflight = await shop.rest("OPTIONS", "/graphql", token=None, headers=asked)
            answer = await shop.rest(
                "GET", "/api/availability", token=SHOP, headers={"Origin": ORIGIN, "Cookie": "a=b"}
            )
        for response in (preflight, answer):
            assert response.headers["access-control-allow-origin"] == origins
            assert "access-control-allow-credentials" not in response.headers


async def test_tokens_of_frontends_can_be_bound_to_registered_documents(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "documents.json"
    manifest.write_text(json.dumps({"list": QUERY}), encoding="utf-8")
    both = await create_token(
        service.database,
        service.tenant_id,
        name="both",
        email=EMAIL,
        scopes=[Scope.AVAILABILITY, Scope.READ],
    )

    async with running(
        database_url, trusted_documents=manifest, trusted_documents_for="availability"
    ) as (app, client):
        bound = Service(app, client, app.state.database, service.tenant_id)

        async def outcome(token: str, **body: str) -> object:
            answer = (await bound.rest("POST", "/graphql", token=token, json=body)).json()
            if "errors" in answer:
                return answer["errors"][0]["extensions"]["code"]
            return next(iter(answer["data"]))

        assert await outcome(SHOP, query=QUERY) == "availabilities"
        assert await outcome(SHOP, documentId="list") == "availabilities"
        assert await outcome(SHOP, query=OTHER) == "DOCUMENT_NOT_TRUSTED"
        assert await outcome(SHOP) == "DOCUMENT_NOT_TRUSTED"
        for token in ("read", "admin", both.token):
            assert await outcome(token, query=OTHER) == "availabilities"
            assert await outcome(token, documentId="list") == "MALFORMED_REQUEST"
        assert (await bound.rest("GET", "/api/availability", token=SHOP)).status_code == 200


def test_tokens_are_bound_only_to_documents_that_exist() -> None:
    with pytest.raises(ValidationError, match="needs trusted_documents"):
        Settings(trusted_documents_for="availability")
