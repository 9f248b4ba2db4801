"""The description of the REST routes says what is so: of the table, of requests, of answers."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.datastructures import Headers

from app.commands.tenants import insert_token
from app.errors import ERRORS, IdempotencyInFlight, Unavailable
from app.stock import WarehouseType
from rest_shim.openapi import openapi
from rest_shim.routes import BULK_ITEM, ROUTES
from tests.rest.answers import Json, answered, ordered, refusal, refused_fields
from tests.rest.test_document_examples import (
    ADJUSTMENT,
    BULK,
    RECORD,
    UPDATE,
    WAREHOUSES,
    with_ids,
)
from tests.service import EMAIL, Service, counted, level, sku, warehouse

DOCUMENT: Final[Json] = json.loads(json.dumps(openapi()))
COMPONENTS: Final[Json] = DOCUMENT["components"]
# Method, path and description of every operation.
OPERATIONS: Final[Mapping[str, tuple[str, str, Json]]] = {
    described["operationId"]: (method.upper(), path, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
}
WRITES: Final = ("setStock", "bulkSetStock")

MAIN: Final = warehouse("Main")
FBA: Final = warehouse("FBA EU", WarehouseType.FBA, marketplace="amazon_eu")
CLOSED: Final = warehouse("Old Hall", address="Speicherweg 4", is_active=False)
GOOD: Final[Json] = {"warehouse_id": MAIN.id, "quantity": 7, "reason": "loss", "note": "Wet"}
BODIES: Final[Mapping[str, Json]] = {
    "setStock": GOOD,
    "bulkSetStock": {"updates": [{"sku": "A", **GOOD}]},
}
POWERLESS: Final = "powerless"


@pytest.fixture
async def stocked(service: Service) -> Service:
    """Return a service with stock, a history, and a token that may do nothing."""
    history = [counted(3), counted(5, "2026-03-12T14:00:00Z", reason="loss", note="Wet")]
    main = level(MAIN, 5, reserved=10**13, safety_stock=1)
    codes = ["a" * length for length in (1, 2, 63, 64)]
    await service.load(
        [MAIN, FBA, CLOSED],
        [
            sku("A", level(MAIN, 5), level(FBA, 2, reserved=1), level(CLOSED, 2)),
            sku("bare"),
            sku("oversold", main),
            *(sku(code, level(MAIN, 5)) for code in codes),
        ],
    )
    assert history

    async def work(connection: AsyncConnection) -> None:
        await insert_token(
            connection,
            service.tenant,
            token=service.token(POWERLESS),
            name=POWERLESS,
            email=EMAIL,
            scopes=[],
        )

    await service.database.transaction(work)
    return service
