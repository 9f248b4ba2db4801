"""Rows as JSON, built by the database."""

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, Text, cast, func, select


def json_rows_of(dialect: str, rows: Select[Any], *, nested: str = "") -> ScalarSelect[str]:
    """Return the JSON text of rows in their order, each an array of its values.

    SQLite forgets that what is `nested` is JSON already.
    """
    each = rows.subquery()
    if dialect == "postgresql":
        return select(json_agg(*each.c)).scalar_subquery()
    values = [func.json(it) if it.key == nested else it for it in each.c]
    return select(func.json_group_array(json_array(dialect, *values), type_=Text)).scalar_subquery()


def json_agg(*columns: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(func.json_agg(json_array("postgresql", *columns)), Text)


def json_array(dialect: str, *values: ColumnElement[Any]) -> ColumnElement[str]:
    make = func.json_build_array if dialect == "postgresql" else func.json_array
    return make(*values, type_=Text)
