"""FastAPI and SQLModel as their tutorials teach them: entities, relationships, response models."""

import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, HTTPException, Query
from sqlalchemy import DateTime, ForeignKeyConstraint
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import selectinload
from sqlalchemy.orm.interfaces import ORMOption
from sqlmodel import BigInteger, Field, Relationship, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from ulid import ULID

TENANT: Final = os.environ["TENANT"]
URL: Final = os.environ["DATABASE_URL"].replace("+asyncpg", "")

engine = create_async_engine(
    URL.replace("postgresql:", "postgresql+asyncpg:"),
    pool_size=int(os.environ.get("POOL", "10")),
    max_overflow=0,
)
sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
app = FastAPI()


def status_of(sellable: int, safety_stock: int) -> str:
    """Return the status of a level or a SKU with these quantities."""
    if sellable <= 0:
        return "out_of_stock"
    if sellable <= safety_stock:
        return "critical"
    if sellable <= 2 * safety_stock:
        return "low"
    return "normal"


def now() -> datetime:
    """Return the current time in milliseconds precision."""
    present = datetime.now(UTC)
    return present.replace(microsecond=present.microsecond // 1000 * 1000)


def quantity() -> Any:
    """Return a column of a quantity."""
    return Field(sa_type=BigInteger)


def instant(*, nullable: bool = False) -> Any:
    """Return a column of an instant."""
    return Field(sa_type=DateTime(timezone=True), nullable=nullable)


class WarehouseBase(SQLModel):
    """The public fields of a warehouse."""

    id: str = Field(primary_key=True)
    name: str
    type: str


class Warehouse(WarehouseBase, table=True):
    """A warehouse."""

    tenant_id: str = Field(primary_key=True)


class StockLevelBase(SQLModel):
    """The public fields of a stock level."""

    on_hand: int = quantity()
    reserved: int = quantity()


class StockLevel(StockLevelBase, table=True):
    """The stock of one SKU in one warehouse."""

    __tablename__ = "stock_level"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "sku"], ["sku.tenant_id", "sku.sku"]),
        ForeignKeyConstraint(
            ["tenant_id", "warehouse_id"], ["warehouse.tenant_id", "warehouse.id"]
        ),
    )

    tenant_id: str = Field(primary_key=True)
    sku: str = Field(primary_key=True)
    warehouse_id: str = Field(primary_key=True)
    safety_stock: int = quantity()
    status: str
    version: int = quantity()
    adjusted_at: datetime | None = instant(nullable=True)
    warehouse: Warehouse = Relationship(sa_relationship_kwargs={"viewonly": True})

    @property
    def available(self) -> int:
        """The quantity that can be sold."""
        return self.on_hand - self.reserved - self.safety_stock


class SkuBase(SQLModel):
    """The public fields of a SKU."""

    sku: str = Field(primary_key=True)
    title: str
    status: str


class Sku(SkuBase, table=True):
    """A stock-keeping unit; its row is the lock of its stock levels."""

    tenant_id: str = Field(primary_key=True)
    version: int = quantity()
    updated_at: datetime = instant()
    stock: list[StockLevel] = Relationship(
        sa_relationship_kwargs={"viewonly": True, "order_by": "StockLevel.warehouse_id"}
    )

    @property
    def total_on_hand(self) -> int:
        """The sum over its levels."""
        return sum(level.on_hand for level in self.stock)

    @property
    def total_reserved(self) -> int:
        """The sum over its levels."""
        return sum(level.reserved for level in self.stock)

    @property
    def total_available(self) -> int:
        """The sum over its levels."""
        return sum(level.available for level in self.stock)

    @property
    def safety_stock(self) -> int:
        """The sum over its levels."""
        return sum(level.safety_stock for level in self.stock)


class Adjustment(SQLModel, table=True):
    """One change of a stock level."""

    tenant_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    sku: str
    warehouse_id: str
    sequence: int = quantity()
    before_quantity: int = quantity()
    after_quantity: int = quantity()
    delta: int = quantity()
    reason: str
    created_by: str
    created_at: datetime = instant()


class WarehousePublic(WarehouseBase):
    """A warehouse in a response."""


class StockLevelPublic(StockLevelBase):
    """A stock level in a response."""

    available: int
    warehouse: WarehousePublic


class SkuPublic(SkuBase):
    """A SKU in a response."""

    total_on_hand: int
    total_reserved: int
    total_available: int
    safety_stock: int
    stock: list[StockLevelPublic]


class StockUpdate(SQLModel):
    """The new quantity of a level of the SKU in the path."""

    warehouse_id: str
    quantity: int = Field(ge=0)
    reason: str


class BulkStockUpdate(StockUpdate):
    """The new quantity of a level."""

    sku: str


class BulkResult(SQLModel):
    """The result of an update."""

    sku: str
    warehouse_id: str
    before: int
    after: int
    adjustment_id: str


async def get_session() -> AsyncIterator[AsyncSession]:
    """Open a session for a request."""
    async with sessions() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]


def with_stock() -> ORMOption:
    """Load the levels and warehouses of SKUs along with them."""
    # The type checker sees the type of the instances' attribute.
    levels = selectinload(Sku.stock)  # type: ignore[arg-type]
    return levels.selectinload(StockLevel.warehouse)  # type: ignore[arg-type]


@app.get("/inventory", response_model=list[SkuPublic])
async def read_inventory(
    session: SessionDep, after: str = "", limit: Annotated[int, Query(le=100)] = 50
) -> Sequence[Sku]:
    """Respond with the SKUs after a code."""
    statement = (
        select(Sku)
        .where(Sku.tenant_id == TENANT, Sku.sku > after)
        .order_by(Sku.sku)
        .limit(limit)
        .options(with_stock())
    )
    return (await session.exec(statement)).all()


@app.get("/inventory/{sku}", response_model=SkuPublic)
async def read_sku(sku: str, session: SessionDep) -> Sku:
    """Respond with one SKU."""
    record = await session.get(Sku, {"tenant_id": TENANT, "sku": sku}, options=[with_stock()])
    if not record:
        raise HTTPException(status_code=404, detail="SKU not found")
    return record


@app.put("/inventory/{sku}", response_model=SkuPublic)
async def set_stock(sku: str, update: StockUpdate, session: SessionDep) -> Sku:
    """Set one level."""
    skus = await locked(session, [sku])
    change(session, skus, sku, update)
    await session.commit()
    return skus[sku]


@app.post("/inventory/bulk")
async def bulk_set_stock(updates: list[BulkStockUpdate], session: SessionDep) -> list[BulkResult]:
    """Set many levels, all or none."""
    skus = await locked(session, sorted({update.sku for update in updates}))
    adjustments = [change(session, skus, update.sku, update) for update in updates]
    await session.commit()
    return [
        BulkResult(
            sku=adjustment.sku,
            warehouse_id=adjustment.warehouse_id,
            before=adjustment.before_quantity,
            after=adjustment.after_quantity,
            adjustment_id=adjustment.id,
        )
        for adjustment in adjustments
    ]


async def locked(session: AsyncSession, codes: list[str]) -> dict[str, Sku]:
    """Lock SKUs in order, and then load their levels."""
    statement = (
        select(Sku)
        .where(Sku.tenant_id == TENANT, col(Sku.sku).in_(codes))
        .order_by(Sku.sku)
        .with_for_update(key_share=True)
        .options(with_stock())
    )
    return {sku.sku: sku for sku in await session.exec(statement)}


def change(
    session: AsyncSession, skus: dict[str, Sku], code: str, update: StockUpdate
) -> Adjustment:
    """Change a level, derive the status of its SKU, and add the adjustment."""
    sku = skus.get(code)
    levels = sku.stock if sku else []
    level = next((row for row in levels if row.warehouse_id == update.warehouse_id), None)
    if sku is None or level is None:
        raise HTTPException(status_code=404, detail="stock level not found")
    before, at = level.on_hand, now()
    level.on_hand = update.quantity
    level.status = status_of(level.on_hand - level.reserved, level.safety_stock)
    level.version += 1
    level.adjusted_at = at
    sku.status = status_of(sku.total_on_hand - sku.total_reserved, sku.safety_stock)
    sku.version += 1
    sku.updated_at = at
    adjustment = Adjustment(
        tenant_id=TENANT,
        id=f"adj_{ULID()}",
        sku=code,
        warehouse_id=level.warehouse_id,
        sequence=level.version,
        before_quantity=before,
        after_quantity=level.on_hand,
        delta=level.on_hand - before,
        reason=update.reason,
        created_by="bench@example.com",
        created_at=at,
    )
    session.add(adjustment)
    return adjustment
