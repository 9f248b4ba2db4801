"""The table of external ids."""

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index
from sqlmodel import SQLModel

from app.database.columns import key_column
from app.database.tables import partial_index, tenant


class ExternalIdTable(SQLModel, table=True):
    """An id of another system for a SKU or a warehouse."""

    __tablename__ = "external_id"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "sku"], ["sku.tenant_id", "sku.sku"]),
        ForeignKeyConstraint(
            ["tenant_id", "warehouse_id"], ["warehouse.tenant_id", "warehouse.id"]
        ),
        CheckConstraint(
            "(kind = 'sku' AND sku IS NOT NULL AND warehouse_id IS NULL)"
            " OR (kind = 'warehouse' AND warehouse_id IS NOT NULL AND sku IS NULL)",
            name="kind",
        ),
        Index(
            "external_id_by_sku_index",
            *("tenant_id", "sku", "namespace", "value"),
            **partial_index("sku IS NOT NULL"),
        ),
        Index(
            "external_id_by_warehouse_index",
            *("tenant_id", "warehouse_id", "namespace", "value"),
            **partial_index("warehouse_id IS NOT NULL"),
        ),
    )

    tenant_id: str = key_column(primary_key=True)
    # The kind of the object. A SKU and a warehouse may have the same id.
    kind: str = key_column(primary_key=True)
    namespace: str = key_column(primary_key=True)
    value: str = key_column(primary_key=True)
    sku: str | None = key_column(nullable=True)
    warehouse_id: str | None = key_column(nullable=True)


external_id: Final = tenant.metadata.tables["external_id"]
