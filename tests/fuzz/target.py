"""A real server with a stocked tenant, and the checks of its responses."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from app.domain.warehouses import WarehouseType
from app.errors import ERRORS
from app.ledger.verification import Proof, verify_tenant
from tests.processes import started
from tests.service import Service, level, new_tenant, running, sku, warehouse

MAIN: Final = warehouse("Main")
WAREHOUSES: Final = (
    MAIN,
    warehouse("Second"),
    warehouse("Amazon", WarehouseType.FBA),
    warehouse("Closed", is_active=False),
)
CODES: Final = ("A", "B-1", "AB/12", "Ä B+1", "C")
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Details of the machine and the database, which no response may contain.
SECRETS: Final = re.compile(
    r"Traceback \(most recent|File \"/|\.py\b|site-packages|/home/|/root/|/tmp/"
    r"|sqlalchemy|asyncpg|aiosqlite|sqlite3|postgresql\+|sqlite\+|://[^/\s\"]*:[^/\s\"]*@"
    r"|SELECT .* FROM|INSERT INTO|UPDATE .* SET|DELETE FROM|stock_level\b|api_token"
)
CODES_BY_STATUS: Final = {(error.status, error.code) for error in ERRORS}
# A busy database is a documented error.
BUSY: Final = 503


class Broken(AssertionError):
    """A response or a state that the documentation excludes."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running server and its tenant."""

    address: str
    database_url: str
    tenant: str

    @property
    def port(self) -> int:
        """Port of the server."""
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def authorization(self) -> str:
        """Authorization header with the scope `write`."""
        return f"Bearer inv_{self.tenant}-write"

    def survives(self) -> Proof:
        """Check that a valid write succeeds and that the ledger passes verification."""
        answer = httpx.put(
            f"{self.address}/api/inventory/A",
            json={"warehouse_id": MAIN.id, "quantity": 7, "reason": "cycle_count"},
            headers={"Authorization": self.authorization},
            timeout=30,
        )
        if answer.status_code != httpx.codes.OK:
            raise Broken(answer.text)

        async def prove() -> Proof:
            async with running(self.database_url) as (app, _):
                return await verify_tenant(app.state.database, self.tenant)

        return asyncio.run(prove())


@contextmanager
def target(database_url: str) -> Iterator[Target]:
    """Start a server on a migrated database with a stocked tenant."""

    async def stock() -> str:
        async with running(database_url) as (app, client):
            database = app.state.database
            service = Service(app, client, database, await new_tenant(database))
            await service.load(
                WAREHOUSES,
                [
                    sku(code, *[level(warehouse, 5 * i) for warehouse in WAREHOUSES])
                    for i, code in enumerate(CODES)
                ],
            )
            return service.tenant_id

    tenant = asyncio.run(stock())
    settings = {"INVENTORY_LOG_LEVEL": "error", "INVENTORY_DATABASE_POOL_TIMEOUT_SECONDS": "60"}
    with started("serve", database_url=database_url, **settings) as (_, address):
        yield Target(address, database_url, tenant)


def check_answer(status: int, headers: Mapping[str, str], body: bytes, *, request: object) -> None:
    """Check that a response is documented.

    Raises:
        Broken: The response is a fault, contains a secret, or has no request id.

    """
    text = body.decode("utf-8", "replace")
    problem = _problem(status, headers, text, repr(request))
    if problem:
        raise Broken(
            f"{problem}\nrequest: {request!r}\nresponse: {status} {dict(headers)}\n{text[:2_000]}"
        )


def _problem(status: int, headers: Mapping[str, str], text: str, request: str) -> str | None:
    if status >= httpx.codes.INTERNAL_SERVER_ERROR and status != BUSY:
        return "a fault"
    # Generated values may come from the code, and errors repeat values of the request.
    secrets = [match[0] for match in SECRETS.finditer(text) if match[0] not in request]
    if secrets:
        return f"it shows {secrets[0]!r}"
    request_id = headers.get("x-request-id", "")
    if not REQUEST_ID.fullmatch(request_id):
        return "no request id"
    if text and "json" in headers.get("content-type", ""):
        return _shape_problem(orjson.loads(text), status, request_id)
    return None


def _shape_problem(answer: Any, status: int, request_id: str) -> str | None:
    if not isinstance(answer, dict):
        return "not an object"
    errors = [error["extensions"] for error in answer.get("errors", ())]
    if "error" in answer:
        errors.append({"status": status, **answer["error"]})
    if status >= httpx.codes.BAD_REQUEST and not errors:
        return "an error without its details"
    for facts in errors:
        if (facts.get("status"), facts.get("code")) not in CODES_BY_STATUS:
            return "an unknown code"
        if facts["status"] >= httpx.codes.INTERNAL_SERVER_ERROR and facts["status"] != BUSY:
            return "a fault in a field"
        if facts.get("request_id") != request_id:
            return "another request id"
    return None
