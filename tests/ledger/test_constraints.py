"""Invalid changes that the database refuses from any client."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.domain.quantities import MAX_QUANTITY, Figures, Status
from app.errors import InventoryError, Unavailable
from app.files.seeding import LoadedLevel
from tests.engines import writer_of
from tests.service import Service, counted, level, sku, warehouse


def _entry(level_and_figures: str) -> str:
    """Statement that copies the adjustment with another level and other figures."""
    return (
        "INSERT INTO adjustment (tenant_id, position, id, sku, warehouse_id, sequence,"
        " before_quantity, after_quantity, delta, reason, note, created_by, created_at, hash)"
        f" SELECT tenant_id, 99, 'adj_x', {level_and_figures}, reason, note, created_by,"
        " created_at, hash FROM adjustment WHERE tenant_id = :tenant"
    )


REFUSED = {
    "an adjustment is changed": "UPDATE adjustment SET note = 'x' WHERE tenant_id = :tenant",
    "an adjustment has no hash": _entry("sku, warehouse_id, 2, 5, 5, 0").replace(
        " hash FROM", " NULL FROM"
    ),
    "an adjustment is deleted": "DELETE FROM adjustment WHERE tenant_id = :tenant",
    "a delta does not match its quantities": _entry("sku, warehouse_id, 9, 1, 3, 1"),
    "a sequence occurs twice": _entry("sku, warehouse_id, sequence, 1, 2, 1"),
    "a position occurs twice": _entry("sku, warehouse_id, 2, 1, 2, 1").replace("99", "position"),
    "an id occurs twice": _entry("sku, warehouse_id, 2, 1, 2, 1").replace("'adj_x'", "id"),
    "a position starts before 1": _entry("sku, warehouse_id, 2, 1, 2, 1").replace("99", "0"),
    "a sequence starts before 1": _entry("sku, warehouse_id, 0, 1, 2, 1"),
    "an adjustment has no level": _entry("sku, 'wh_x', 1, 1, 2, 1"),
    "a negative quantity on hand": (
        "UPDATE stock_level SET on_hand = -1 WHERE tenant_id = :tenant"
    ),
    "a quantity on hand above the maximum": (
        f"UPDATE stock_level SET on_hand = {MAX_QUANTITY + 1} WHERE tenant_id = :tenant"
    ),
    "a negative reserved quantity": (
        "UPDATE stock_level SET reserved = -1 WHERE tenant_id = :tenant"
    ),
    "a negative safety stock": (
        "UPDATE stock_level SET safety_stock = -1 WHERE tenant_id = :tenant"
    ),
    "a status is unknown": "UPDATE sku SET status = 'fine' WHERE tenant_id = :tenant",
    "a level's status is unknown": (
        "UPDATE stock_level SET status = 'fine' WHERE tenant_id = :tenant"
    ),
    "a warehouse type is unknown": "UPDATE warehouse SET type = 'x' WHERE tenant_id = :tenant",
    "a level has no SKU": "UPDATE stock_level SET sku = 'Z' WHERE tenant_id = :tenant",
    "a SKU with stock is deleted": "DELETE FROM sku WHERE tenant_id = :tenant",
    "a warehouse with stock is deleted": "DELETE FROM warehouse WHERE tenant_id = :tenant",
    "a level moves to another tenant": (
        "UPDATE stock_level SET tenant_id = 'other' WHERE tenant_id = :tenant"
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_the_database_refuses_an_invalid_change(service: Service, what: str) -> None:
    main = warehouse()
    await service.load([main], [sku("A", level(main, 5))])

    with pytest.raises(DBAPIError, match=r"constraint|append-only"):
        async with writer_of(service.database).connect() as connection:
            await connection.execute(text(REFUSED[what]), {"tenant": service.tenant_id})


async def test_readers_cannot_write(service: Service) -> None:
    async with service.database.snapshot() as snapshot:
        with pytest.raises(Unavailable):
            await snapshot.rows(text("DELETE FROM sku_count"), {})


async def test_a_loaded_sku_code_is_validated(service: Service) -> None:
    for code in ("", " A", "A ", "A  A", "A" * 256, "A\x00", "cafe\u0301", "warehouses", "bulk"):
        with pytest.raises(InventoryError):
            await service.load(skus=[sku(code)])


async def test_a_level_can_hold_the_maximum_quantity(service: Service) -> None:
    main = warehouse()
    most = LoadedLevel(warehouse_id=main.id, history=[counted(MAX_QUANTITY)])
    await service.load([main], [sku("A", most)])

    record = (await service.rest("GET", "/api/inventory/A")).json()["data"]
    assert record["total_on_hand"] == MAX_QUANTITY


@pytest.mark.parametrize(
    ("on_hand", "reserved", "safety_stock", "status"),
    [
        (0, 0, 0, Status.OUT_OF_STOCK),
        (5, 5, 0, Status.OUT_OF_STOCK),
        (5, 6, 0, Status.OUT_OF_STOCK),
        (1, 0, 0, Status.NORMAL),
        (10, 0, 10, Status.CRITICAL),
        (11, 0, 10, Status.LOW),
        (20, 0, 10, Status.LOW),
        (21, 0, 10, Status.NORMAL),
        (25, 5, 10, Status.LOW),
        (487, 23, 15, Status.NORMAL),
    ],
)
def test_the_status_follows_from_the_figures(
    on_hand: int, reserved: int, safety_stock: int, status: Status
) -> None:
    assert Figures(on_hand, reserved, safety_stock, None).status is status


def test_available_may_be_negative() -> None:
    assert Figures(350, 18, 15, None).available == 317
    assert Figures(1, 5, 10, None).available == -14
