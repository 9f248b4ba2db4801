"""Codes that differ from an unknown code only in case or leading zeros."""

from collections.abc import Collection
from functools import cache
from typing import Any, Final

from sqlalchemy import Select, Text, func, literal_column, select

from app.database.parameters import TENANT, as_json, rows_from
from app.database.session import Session
from app.database.tables import sku
from app.domain.validation import folded_codes, sku_problem

FOLDED: Final = {"code": Text(), "folded": Text()}


async def find_similar_codes(
    session: Session, tenant_id: str, codes: Collection[str]
) -> dict[str, str]:
    """Find an existing code for each unknown code; codes without a similar one are absent."""
    rows = [
        {"code": code, "folded": folded}
        for code in codes
        if sku_problem(code) is None
        for folded in folded_codes(code)
    ]
    if not rows:
        return {}
    parameters = {"tenant_id": tenant_id, "codes": as_json(rows)}
    found = await session.rows(select_similar(session.dialect), parameters)
    similar = sorted((row.code, row.similar) for row in found if row.similar is not None)
    # The first one of each code.
    return dict(reversed(similar))


@cache
def select_similar(dialect: str) -> Select[Any]:
    """Return the SELECT of a similar code for each unknown code, if there is one."""
    codes = rows_from(dialect, "codes", FOLDED)
    # An index has this expression.
    folded = func.ltrim(func.lower(sku.c.sku), literal_column("'0'"))
    similar = (
        select(sku.c.sku)
        .where(sku.c.tenant_id == TENANT, folded == codes.c.folded)
        # In no order: for an order by code, a planner might read all codes of the tenant.
        .limit(literal_column("1"))
        .correlate(codes)
    )
    return select(codes.c.code, similar.scalar_subquery().label("similar"))
