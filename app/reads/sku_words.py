"""Reads of the words of SKUs."""

from functools import cache
from typing import Any

from sqlalchemy import Select, Text, bindparam, select

from app.database.parameters import TENANT
from app.database.snapshot import Snapshot
from app.database.tables import sku_word
from app.reads.paging import COUNT_LIMIT, MAX_COUNT
from app.reads.skus import text_after_prefix


async def list_codes_with_word(snapshot: Snapshot, tenant_id: str, *, word: str) -> set[str] | None:
    """Read the codes of SKUs with a word that begins with `word`; None for MAX_COUNT or more."""
    parameters = {"tenant_id": tenant_id, "word": word, "word_end": text_after_prefix(word)}
    rows = await snapshot.rows(_codes_with_word(), parameters)
    return None if len(rows) >= MAX_COUNT else {row.sku for row in rows}


@cache
def _codes_with_word() -> Select[Any]:
    columns = sku_word.c
    return (
        select(columns.sku)
        .where(
            columns.tenant_id == TENANT,
            columns.word >= bindparam("word", type_=Text),
            columns.word < bindparam("word_end", type_=Text),
        )
        .order_by(columns.word, columns.sku)
        .limit(COUNT_LIMIT)
    )
