"""Checks of values from clients."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from app.errors import invalid_field

MAX_NOTE_LENGTH: Final = 1_000
MAX_SKU_LENGTH: Final = 64
MAX_REFERENCE_LENGTH: Final = 255
MAX_BULK_UPDATES: Final = 500
MAX_TITLE_LENGTH: Final = 500
# Of the texts of a warehouse.
MAX_NAME_LENGTHS: Final[Mapping[str, int]] = {"name": 200, "address": 500, "marketplace": 64}

USUAL_REASONS: Final = (
    "supplier_receipt",
    "cycle_count",
    "customer_return",
    "damage",
    "loss",
    "correction",
    "initial_stock",
)
# Routes such as /api/inventory/warehouses shadow these codes.
SHADOWED_SKUS: Final = frozenset({"warehouses", "bulk", "transfers", "reservations"})
REASON_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SKU_PUNCTUATION: Final = frozenset(" ._:/+-")


def is_sku(code: str) -> bool:
    """Check the form of a SKU code.

    1 to 64 characters in NFC: letters, digits, space and `._:/+-`, a letter or digit first.
    """
    return (
        0 < len(code) <= MAX_SKU_LENGTH
        and code[0].isalnum()
        and all(letter.isalnum() or letter in _SKU_PUNCTUATION for letter in code)
        and unicodedata.is_normalized("NFC", code)
    )


def check_code(code: str) -> None:
    """Check that a new SKU may have a code.

    Raises:
        ValidationFailed: the code is malformed, or a route shadows it.

    """
    if not is_sku(code):
        raise invalid_field(
            "sku",
            "must be 1 to 64 characters in NFC: letters, digits, space and ._:/+-, a letter or "
            f"digit first, and is {code!r}",
        )
    if code in SHADOWED_SKUS:
        raise invalid_field("sku", f"must not be {code}, the name of a route")


def is_reason(text: str) -> bool:
    """Check the form of the reason of an adjustment: `^[a-z][a-z0-9_]{0,63}$`."""
    return REASON_PATTERN.fullmatch(text) is not None


def name_problem(name: str, longest: int) -> str | None:
    """Describe the fault of a title or a name, if any."""
    if not name.strip() or len(name) > longest or "\x00" in name:
        return f"must be 1 to {longest} characters, not all of them spaces and none of them NUL"
    return None


def reference_problem(reference: str | None) -> str | None:
    """Describe the fault of a reference to an order, a delivery or a count, if any."""
    return None if reference is None else name_problem(reference, MAX_REFERENCE_LENGTH)


def reason_problem(reason: str) -> str | None:
    """Describe the fault of a reason, if any."""
    if is_reason(reason):
        return None
    return "must be 1 to 64 of a-z, 0-9 and _, a letter first, for example supplier_receipt"


def note_problem(note: str | None) -> str | None:
    """Describe the fault of a note, if any."""
    if note is None:
        return None
    if len(note) > MAX_NOTE_LENGTH:
        return f"must have at most {MAX_NOTE_LENGTH} characters, and has {len(note)}"
    if "\x00" in note:
        return "must not contain the character NUL"
    return None
