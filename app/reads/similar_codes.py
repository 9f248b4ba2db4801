"""Codes that differ from another code only in case or leading zeros."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Integer, Select, Text, func, literal_column, select
from sqlalchemy.types import TypeEngine

from app.database.parameters import TENANT, as_json, rows_from
from app.database.session import Session
from app.database.tables import sku
from app.domain.validation import folded_codes, sku_problem

FOLDED: Final[Mapping[str, TypeEngine[Any]]] = {
    "code": Text(),
    "place": Integer(),
    "folded": Text(),
}


async def find_similar_codes(
    session: Session, tenant_id: str, codes: Collection[str]
) -> dict[str, str]:
    """Find an existing code for each unknown code; codes without a similar one are absent."""
    spellings = {code: [code] for code in codes if sku_problem(code) is None}
    return await find_other_spellings(session, tenant_id, spellings)


async def find_other_spellings(
    session: Session, tenant_id: str, spellings: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Find another existing code for each code by its spellings; the first of them come first."""
    rows = [
        {"code": code, "place": place, "folded": folded}
        for code, texts in spellings.items()
        for place, text in enumerate(texts)
        for folded in folded_codes(text)
    ]
    if not rows:
        return {}
    parameters = {"tenant_id": tenant_id, "codes": as_json(rows)}
    found = await session.rows(select_similar(session.dialect), parameters)
    similar = sorted((row.code, row.place, row.similar) for row in found if row.similar is not None)
    # The first one of each code.
    return {code: text for code, _, text in reversed(similar)}


@cache
def select_similar(dialect: str) -> Select[Any]:
    """Return the SELECT of a similar code for each code, if there is one."""
    codes = rows_from(dialect, "codes", FOLDED)
    # An index has this expression.
    folded = func.ltrim(func.lower(sku.c.sku), literal_column("'0'"))
    similar = (
        select(sku.c.sku)
        .where(sku.c.tenant_id == TENANT, folded == codes.c.folded, sku.c.sku != codes.c.code)
        # In no order: for an order by code, a planner might read all codes of the tenant.
        .limit(literal_column("1"))
        .correlate(codes)
    )
    return select(codes.c.code, codes.c.place, similar.scalar_subquery().label("similar"))
