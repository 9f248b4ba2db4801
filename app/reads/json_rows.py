"""Rows as JSON text, built by the database."""

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, Text, cast, func, select


def json_rows_of(dialect: str, rows: Select[Any], *, nested: str = "") -> ScalarSelect[str]:
    """JSON text of rows in their order, each an array of its values.

    `nested` names a column that holds JSON already; SQLite would quote it as text.
    """
    each = rows.subquery()
    if dialect == "postgresql":
        return select(json_agg(*each.c)).scalar_subquery()
    values = [func.json(column) if column.key == nested else column for column in each.c]
    return select(func.json_group_array(json_array(dialect, *values), type_=Text)).scalar_subquery()


def json_agg(*columns: ColumnElement[Any]) -> ColumnElement[str]:
    """JSON text of all rows, each an array of its values; null without rows (PostgreSQL)."""
    return cast(func.json_agg(json_array("postgresql", *columns)), Text)


def json_array(dialect: str, *values: ColumnElement[Any]) -> ColumnElement[str]:
    """JSON array of the values of one row."""
    build = func.json_build_array if dialect == "postgresql" else func.json_array
    return build(*values, type_=Text)
