"""The data of the benchmarks is valid data of the service."""

import pytest

from app.database.engine import Database
from app.database.migration import migrate
from app.ledger.verification import verify_tenant
from app.settings import Settings
from benchmarks.data import TENANT, Size, fill

SIZES = {
    "two levels each": Size(40),
    "two to four levels each, with a history": Size(40, adjustments_per_level=3, spread=True),
    "a busy SKU": Size(41, adjustments_per_level=2, spread=True, busy=50),
    "a busy SKU alone": Size(1, busy=50),
}


@pytest.mark.parametrize("name", SIZES)
async def test_ledger_verifies_and_has_the_declared_size(
    empty_database_url: str, name: str
) -> None:
    size = SIZES[name]
    database = Database(Settings(database_url=empty_database_url))
    try:
        await migrate(database)
        progress = [skus async for skus in fill(database, size)]
        proof = await verify_tenant(database, TENANT)
    finally:
        await database.dispose()

    assert progress == [size.skus]
    assert (proof.skus, proof.stock_levels, proof.adjustments) == (
        size.skus,
        size.levels,
        size.adjustments,
    )
