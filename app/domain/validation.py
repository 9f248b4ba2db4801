"""Checks of values from clients."""

import re
import unicodedata
from collections.abc import Mapping
from itertools import chain, groupby
from typing import Final

from app.errors import invalid_field

MAX_NOTE_LENGTH: Final = 1_000
MAX_SKU_LENGTH: Final = 255
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
# Routes such as /api/inventory/warehouses shadow these codes; clients resolve dots in paths.
RESERVED_SKUS: Final = frozenset(
    {"warehouses", "bulk", "transfers", "reservations", "changes", ".", ".."}
)
# Letters, marks, numbers, punctuation and symbols.
PRINTED_CATEGORIES: Final = frozenset("LMNPS")
CATEGORY_NAMES: Final = {
    "Cc": "a control character",
    "Cf": "an invisible format character",
    "Cn": "an unassigned character",
    "Co": "a private-use character",
    "Cs": "a surrogate",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Zs": "a space other than U+0020",
}
# The most characters that one character of a code in NFC has in another form.
LONGEST_DECOMPOSITION: Final = 4
REASON_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_UPPER: Final = re.compile("[A-Z]+")


def normalized_code(code: str) -> str:
    """Return a SKU code in NFC, the form in which codes are stored.

    A text that is too long for a code in any form is returned as it is.
    """
    return code if len(code) > MAX_SKU_LENGTH * LONGEST_DECOMPOSITION else normalized_text(code)


def normalized_text(text: str) -> str:
    """Return a text in NFC."""
    if text.isascii():
        return text
    # Sorted before: unicodedata takes time that grows with the square of unsorted marks.
    runs = groupby(text, key=lambda character: unicodedata.combining(character) > 0)
    ordered = chain.from_iterable(sorted(run, key=unicodedata.combining) for _, run in runs)
    return unicodedata.normalize("NFC", "".join(ordered))


def folded_codes(code: str) -> set[str]:
    """Return a code, and its upper and lower case, in the form in which codes are compared.

    Databases convert only A-Z to lower case.
    """
    return {_UPPER.sub(_lower, each).lstrip("0") for each in (code, code.upper(), code.lower())}


def _lower(match: re.Match[str]) -> str:
    return match[0].lower()


def sku_problem(code: str) -> str | None:
    """Describe the fault of a SKU code in NFC, if any, with the character and its place."""
    if problem := printed_text_problem(code, MAX_SKU_LENGTH):
        return problem
    if code in RESERVED_SKUS:
        return f"must not be {code!r}, which means another path in a URL"
    return None


def printed_text_problem(code: str, longest: int) -> str | None:
    """Describe the fault of a text of printed characters with single spaces inside, if any."""
    if not 1 <= len(code) <= longest:
        return f"must have 1 to {longest} characters, and has {len(code)}"
    for place, character in enumerate(code, start=1):
        category = unicodedata.category(character)
        if category[0] not in PRINTED_CATEGORIES and character != " ":
            named = f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
            kind = CATEGORY_NAMES[category]
            return f"must not contain {named}, {kind}, which is its character {place}"
    if code[0] == " " or code[-1] == " ":
        place = 1 if code[0] == " " else len(code)
        return f"must not start or end with a space, which is its character {place}"
    if "  " in code:
        place = code.index("  ") + 2
        return f"must not contain two spaces in a row, which are its characters {place - 1}-{place}"
    return None


def check_code(code: str) -> None:
    """Check that a new SKU may have a code.

    Raises:
        ValidationFailed: the code is malformed, not in NFC, or a path of the service.

    """
    if code != normalized_code(code):
        raise invalid_field("sku", "must be in the Unicode form NFC")
    if problem := sku_problem(code):
        raise invalid_field("sku", problem)


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
