"""Every key starts with the tenant, so that a sharded PostgreSQL can store a tenant together."""

from typing import Final

import pytest
from sqlalchemy import (
    DefaultClause,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from app.database.schema import METADATA

TABLES = METADATA.sorted_tables
# Indexes that find the due work of all tenants. Each shard has its own, so they need no tenant.
ACROSS_TENANTS: Final = {("expires_at", "tenant_id"), ("next_attempt_at", "tenant_id")}


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_every_key_leads_with_the_tenant(table: Table) -> None:
    keys = [
        [column.name for column in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint, ForeignKeyConstraint))
    ]
    keys += [[column.name for column in index.columns] for index in table.indexes]

    assert keys
    assert {key[0] for key in keys if tuple(key) not in ACROSS_TENANTS} == {"tenant_id"}


def test_only_searches_for_due_work_have_an_index_across_tenants() -> None:
    across = {
        tuple(column.name for column in index.columns): index.unique
        for table in TABLES
        for index in table.indexes
        if index.columns[0].name != "tenant_id"
    }
    assert across == dict.fromkeys(ACROSS_TENANTS, False)


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_every_foreign_key_stays_within_the_tenant(table: Table) -> None:
    for constraint in table.foreign_key_constraints:
        assert constraint.elements[0].column.name == "tenant_id"


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_no_sequence_is_shared_between_tenants(table: Table) -> None:
    assert table.autoincrement_column is None
    defaults = [column.server_default for column in table.columns if column.server_default]
    assert all(isinstance(it, DefaultClause) and str(it.arg).isdecimal() for it in defaults)


def test_every_index_has_a_name() -> None:
    indexes: list[Index] = [index for table in TABLES for index in table.indexes]

    assert all(index.name for index in indexes)
