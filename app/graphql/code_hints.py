"""Hints in refusals of unknown SKU codes: a similar code that exists."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from graphql import GraphQLError

from app.database.engine import Database
from app.errors import InventoryError, InventoryNotFound, Unavailable, similar_code_hint
from app.reads.similar_codes import find_similar_codes


async def add_code_hints(
    database: Database, tenant_id: str, errors: Iterable[GraphQLError]
) -> None:
    """Add similar codes to the refusals of unknown SKU codes among the errors of an operation.

    The refusals stay as they are if the database cannot be read.
    """
    refusals = [refusal for error in errors if (refusal := _refusal(error)) is not None]
    codes = {code for refusal in refusals for code in _unknown_codes(refusal)}
    if not codes:
        return
    with suppress(Unavailable):
        async with database.snapshot(single=True, tenant_id=tenant_id) as snapshot:
            similar = await find_similar_codes(snapshot, tenant_id, codes)
        for refusal in refusals:
            _add_hints(refusal, similar)


def _refusal(error: GraphQLError) -> InventoryError | None:
    original: Exception | None = error
    while isinstance(original, GraphQLError):
        original = original.original_error
    return original if isinstance(original, InventoryError) else None


def _unknown_codes(refusal: InventoryError) -> Iterator[str]:
    for detail in refusal.details:
        if "sku" in detail and _is_unknown(refusal, detail):
            yield str(detail["sku"])


def _is_unknown(refusal: InventoryError, detail: Mapping[str, Any]) -> bool:
    """Whether a detail is of an unknown code: of the whole request, or of an item of it."""
    code = detail["error"]["code"] if "error" in detail else refusal.code
    return bool(code == InventoryNotFound.code)


def _add_hints(refusal: InventoryError, similar: Mapping[str, str]) -> None:
    details = [_with_hint(refusal, detail, similar) for detail in refusal.details]
    if details[:1] != list(refusal.details[:1]):
        # The message ends with that of the first refused item.
        refusal.message += similar_code_hint(similar[str(details[0]["sku"])])
    refusal.details = details


def _with_hint(
    refusal: InventoryError, detail: Mapping[str, Any], similar: Mapping[str, str]
) -> Mapping[str, Any]:
    code = str(detail.get("sku"))
    if code not in similar or not _is_unknown(refusal, detail):
        return detail
    if "error" not in detail:
        return {**detail, "similar": similar[code]}
    message = detail["error"]["message"] + similar_code_hint(similar[code])
    return {**detail, "error": {**detail["error"], "message": message}}
