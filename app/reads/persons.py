"""The e-mail addresses of the authors of adjustments and reservations."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Table, Text, bindparam, func, literal_column, select

from app.database.parameters import TENANT, KeyValue
from app.database.tables import person
from app.domain.persons import ERASED
from app.ledger.totals import Columns

_ERASED: Final[ColumnElement[str]] = literal_column(f"'{ERASED}'", Text)


def author_of(table: Table) -> ColumnElement[str]:
    """Return the address of the author of a row, as its column `created_by`."""
    address = (
        select(person.c.email)
        .where(person.c.tenant_id == TENANT, person.c.id == table.c.created_by)
        .correlate(table)
        .scalar_subquery()
    )
    return func.coalesce(address, _ERASED).label("created_by")


def is_by_author(columns: Columns) -> ColumnElement[Any]:
    """Condition that the author of a row has the address of the parameter `created_by`."""
    id_ = select(person.c.id).where(
        person.c.tenant_id == TENANT,
        person.c.email == bindparam("created_by", type_=KeyValue),
    )
    condition: ColumnElement[Any] = columns.created_by == id_.scalar_subquery()
    return condition
