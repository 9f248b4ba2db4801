"""The longest codes and references fit every index, also in characters of four bytes."""

import random

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database.tables import ledger_sum
from app.domain.caller import Caller, Scope
from app.domain.stock import StockUpdate
from app.errors import ValidationFailed
from app.ledger.totals import Group
from app.writes.stock import change_stock
from app.writes.tenants import create_token
from tests.engines import transact
from tests.ledger.writes import assert_proven
from tests.service import Service, sku, warehouse

# The longest e-mail address (RFC 5321), in characters of four bytes.
LONGEST_EMAIL = 254 // 4


def incompressible(dice: random.Random, length: int) -> str:
    """Ideographs of four bytes in UTF-8, in an order without repetitions."""
    return "".join(chr(dice.randrange(0x20000, 0x2A6DF)) for _ in range(length))


async def test_the_longest_keys_fit_every_index(service: Service) -> None:
    dice = random.Random(1)
    code, reference = incompressible(dice, 255), incompressible(dice, 255)
    email = incompressible(dice, LONGEST_EMAIL)
    main = warehouse()
    await service.load([main], [sku(code)])
    change = StockUpdate(
        sku=code, warehouse_id=main.id, delta=3, reason="r" * 64, reference=reference
    )

    await change_stock(service.database, Caller(service.tenant_id, "tok_1", email), change)

    await assert_proven(service)
    # The widest key of all.
    row = {
        "tenant_id": service.tenant_id,
        "kind": Group.SKU_OF_REFERENCE,
        "reference": reference,
        "sku": code,
        "until": 9,
        "warehouse_id": "w" * 64,
        "reason": "r" * 64,
        "created_by": "per_" + "0" * 32,
        "sign": 1,
        "entries": 1,
        "delta_upper": 0,
        "delta_lower": 3,
    }

    async def store(connection: AsyncConnection) -> None:
        await connection.execute(insert(ledger_sum), [row])

    await transact(service.database, store)


async def test_a_longer_email_address_is_refused(service: Service) -> None:
    for email in ("x" * 255, "é" * 128):
        with pytest.raises(ValidationFailed, match="at most 254 bytes"):
            await create_token(
                service.database, service.tenant_id, name="n", email=email, scopes=[Scope.READ]
            )
