"""A real server with a stocked tenant, and what must hold of it whatever it is sent."""

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
PLACES: Final = (
    MAIN,
    warehouse("Second"),
    warehouse("Amazon", WarehouseType.FBA),
    warehouse("Closed", is_active=False),
)
CODES: Final = ("A", "B-1", "AB/12", "Ä B+1", "C")
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What a stranger must not see of the machine or the database.
SECRETS: Final = re.compile(
    r"Traceback \(most recent|File \"/|\.py\b|site-packages|/home/|/root/|/tmp/"
    r"|sqlalchemy|asyncpg|aiosqlite|sqlite3|postgresql\+|sqlite\+|://[^/\s\"]*:[^/\s\"]*@"
    r"|SELECT .* FROM|INSERT INTO|UPDATE .* SET|DELETE FROM|stock_level\b|api_token"
)
CODES_BY_STATUS: Final = {(error.status, error.code) for error in ERRORS}
# The database may be too busy for the moment, and says so.
BUSY: Final = 503


class Broken(AssertionError):
    """A promise that was not kept."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server under fire."""

    address: str
    database_url: str
    tenant: str

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def authorization(self) -> str:
        """The header of a token that may read and write."""
        return f"Bearer inv_{self.tenant}-write"

    def survives(self) -> Proof:
        """Assert that a valid write succeeds, and that the ledger adds up after all."""
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
    """Start a server on a migrated database, with a tenant that has stock."""

    async def stock() -> str:
        async with running(database_url) as (app, client):
            database = app.state.database
            service = Service(app, client, database, await new_tenant(database))
            await service.load(
                PLACES,
                [
                    sku(code, *[level(place, 5 * i) for place in PLACES])
                    for i, code in enumerate(CODES)
                ],
            )
            return service.tenant_id

    tenant = asyncio.run(stock())
    settings = {"INVENTORY_LOG_LEVEL": "error", "INVENTORY_DATABASE_POOL_TIMEOUT_SECONDS": "60"}
    with started("serve", database_url=database_url, **settings) as (_, address):
        yield Target(address, database_url, tenant)


def check_answer(status: int, headers: Mapping[str, str], body: bytes, *, asked: object) -> None:
    """Assert that an answer is one that the documentation knows.

    Raises:
        Broken: it is a fault, shows what it must not, or has no request id.

    """
    text = body.decode("utf-8", "replace")
    problem = _problem(status, headers, text, repr(asked))
    if problem:
        raise Broken(
            f"{problem}\nasked: {asked!r}\nanswer: {status} {dict(headers)}\n{text[:2_000]}"
        )


def _problem(status: int, headers: Mapping[str, str], text: str, asked: str) -> str | None:
    if status >= httpx.codes.INTERNAL_SERVER_ERROR and status != BUSY:
        return "a fault"
    # Drawn values are taken from our own code, too, and errors say again what was asked for.
    shown = [found[0] for found in SECRETS.finditer(text) if found[0] not in asked]
    if shown:
        return f"it shows {shown[0]!r}"
    request_id = headers.get("x-request-id", "")
    if not REQUEST_ID.fullmatch(request_id):
        return "no request id"
    if text and "json" in headers.get("content-type", ""):
        return _shape_problem(orjson.loads(text), status, request_id)
    return None


def _shape_problem(answer: Any, status: int, request_id: str) -> str | None:
    if not isinstance(answer, dict):
        return "no object"
    errors = [error["extensions"] for error in answer.get("errors", ())]
    if "error" in answer:
        errors.append({"status": status, **answer["error"]})
    if status >= httpx.codes.BAD_REQUEST and not errors:
        return "an error without its facts"
    for facts in errors:
        if (facts.get("status"), facts.get("code")) not in CODES_BY_STATUS:
            return "an unknown code"
        if facts["status"] >= httpx.codes.INTERNAL_SERVER_ERROR and facts["status"] != BUSY:
            return "a fault in a field"
        if facts.get("request_id") != request_id:
            return "another request id"
    return None
