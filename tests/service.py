"""A service under test with a new tenant, and builders with defaults for its data."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from starlette.applications import Starlette
from ulid import ULID

from app.database.engine import Database
from app.database.session import DriverSession
from app.domain.caller import Scope
from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files.seeding import LoadedCount, LoadedLevel, LoadedSku, load_skus, load_warehouses
from app.main import create_app
from app.settings import Settings
from app.writes.tenants import insert_tenant, insert_token

EMAIL = "tester@example.com"


@dataclass(frozen=True)
class Service:
    """A running application and one tenant of its database."""

    app: Starlette
    client: httpx.AsyncClient
    database: Database
    tenant_id: str

    def token(self, scope: str) -> str:
        """Return the tenant's token with a scope: `availability`, `read`, `write` or `admin`."""
        return f"inv_{self.tenant_id}-{scope}"

    async def rest(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "write",
        **options: Any,
    ) -> httpx.Response:
        """Send a REST request; `token` is a scope, a whole token, or None for no credential."""
        headers = {**self._authorization(token), **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **options)

    async def graphql(
        self,
        query: str,
        variables: Mapping[str, object] | None = None,
        *,
        token: str | None = "write",
    ) -> dict[str, Any]:
        """Run a GraphQL operation and return the JSON of its response."""
        body = {"query": query, "variables": variables}
        headers = self._authorization(token)
        response = await self.client.post("/graphql", json=body, headers=headers)
        answer: dict[str, Any] = response.json()
        return answer

    async def data(
        self,
        query: str,
        variables: Mapping[str, object] | None = None,
        *,
        token: str | None = "write",
    ) -> dict[str, Any]:
        """Run a GraphQL operation that must succeed and return its data."""
        answer = await self.graphql(query, variables, token=token)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    async def load(
        self, warehouses: Sequence[WarehouseRecord] = (), skus: Sequence[LoadedSku] = ()
    ) -> None:
        """Insert warehouses and SKUs with their history; at most once per test and tenant."""

        async def work(session: DriverSession) -> None:
            await load_warehouses(session, self.tenant_id, warehouses)
            await load_skus(session, self.tenant_id, skus)

        await self.database.transaction(work)

    def _authorization(self, token: str | None) -> dict[str, str]:
        if token is None:
            return {}
        whole = self.token(token) if token in ("availability", "read", "write", "admin") else token
        return {"Authorization": f"Bearer {whole}"}


def warehouse(
    name: str = "Main",
    type_: WarehouseType = WarehouseType.OWN,
    *,
    address: str | None = None,
    marketplace: str | None = None,
    is_active: bool = True,
    is_sellable: bool = True,
) -> WarehouseRecord:
    """Build a warehouse with a new id."""
    return WarehouseRecord(
        f"wh_{ULID()}", name, type_, address, marketplace, is_active, is_sellable
    )


def level(
    stored_in: WarehouseRecord,
    on_hand: int,
    *,
    reserved: int = 0,
    safety_stock: int = 0,
    reorder_point: int | None = None,
) -> LoadedLevel:
    """Build a stock level that was counted once."""
    return LoadedLevel(
        warehouse_id=stored_in.id,
        reserved=reserved,
        safety_stock=safety_stock,
        reorder_point=reorder_point,
        history=[counted(on_hand)],
    )


def counted(
    quantity: int,
    at: str = "2026-01-01T00:00:00Z",
    *,
    reason: str = "initial_stock",
    note: str | None = None,
) -> LoadedCount:
    """Build an entry of a level's history."""
    return LoadedCount(
        quantity=quantity,
        reason=reason,
        note=note,
        created_by=EMAIL,
        created_at=datetime.fromisoformat(at),
    )


def sku(code: str, *levels: LoadedLevel, title: str = "Thing") -> LoadedSku:
    """Build a SKU."""
    return LoadedSku(sku=code, title=title, levels=levels)


class Transport(httpx.ASGITransport):
    """Runs each request in a task of its own, as a server does.

    Otherwise the time limit of a request would apply to the statements of the test after it.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Run the application for a request."""
        return await asyncio.create_task(super().handle_async_request(request))


@asynccontextmanager
async def running(
    database_url: str,
    **settings: Any,
) -> AsyncIterator[tuple[Starlette, Any]]:
    """Run the application on a database, and yield it with a client."""
    # Long enough that a busy machine causes no timeouts.
    defaults = {
        "token_cache_seconds": 0,
        "log_level": "error",
        "slow_statement_ms": None,
        "database_pool_timeout_seconds": 60,
    }
    columnar = settings.pop("columnar", True)
    app = create_app(
        Settings(database_url=database_url, **{**defaults, **settings}), columnar=columnar
    )
    transport = Transport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield app, client
    await app.state.database.dispose()


async def new_tenant(database: Database) -> str:
    """Create a tenant with a token per scope and return its id."""
    tenant_id = f"t{ULID()}".lower()

    async def work(session: DriverSession) -> None:
        await insert_tenant(session, tenant_id, name="Test")
        for scope in Scope:
            await insert_token(
                session,
                tenant_id,
                token=f"inv_{tenant_id}-{scope.name.lower()}",
                name=scope.name,
                email=EMAIL,
                scopes=[scope],
            )

    await database.transaction(work)
    return tenant_id


def now() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)
