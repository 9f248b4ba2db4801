"""Values of cells: texts, quantities and truth values as people and spreadsheets write them."""

import re
from decimal import Decimal
from typing import Final

from app.domain.quantities import MAX_QUANTITY
from app.domain.validation import normalized_text

# Quantities that leave the stock level as it is.
BLANK_QUANTITIES: Final = frozenset(
    {"", "-", "\N{EN DASH}", "\N{EM DASH}", "not stocked", "n/a", "null"}
)
TRUTH_VALUES: Final = {
    **dict.fromkeys(("true", "yes", "1"), True),
    **dict.fromkeys(("false", "no", "0"), False),
}
# The separators of thousands that go with a decimal separator.
_GROUPS: Final = {".": ",", ",": r"\."}
_SHORT_NUMBER: Final = r"(?:0|[1-9][0-9]{0,10})\Z"
_MONTHS: Final = "|".join(
    "".join(f"[{letter}{letter.upper()}]" for letter in name)
    for name in "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905 - shorter
)
# Texts that a spreadsheet changes: formulas, truth values, scientific notation, times, months with
# numbers, and all texts without letters but short whole numbers. No text takes more than linear
# time: exports match millions of texts.
_CHANGED: Final = rf"""(?:
    [=+\-@\t\r]
    | (?=[A-Za-z]) (?:
        [Tt][Rr][Uu][Ee]\Z
        | [Ff][Aa][Ll][Ss][Ee]\Z
        | (?:{_MONTHS}) [A-Za-z]*+ (?=[^0-9]*+[0-9]) [\W\d_]++\Z
    )
    | (?![^\W\d_]) (?:
        [0-9]* (?:[.,][0-9]*)? [eE][+-]?[0-9]+\Z
        | [0-9]++ (?:\ |(?::[0-9]++)++\ ?) [aApP][mM]?\Z
        | (?=[^0-9]*+[0-9]) [\W\d_]++ (?:{_MONTHS}) [A-Za-z]*+ [\W\d_]*+\Z
        | (?!{_SHORT_NUMBER}) (?=[^0-9]*+[0-9]) [\W\d_]++\Z
    )
)"""
# An export puts an apostrophe before such a text, and an import removes it.
SPREADSHEET_TEXT: Final = re.compile(rf"'*+{_CHANGED} | '++{_SHORT_NUMBER}", re.VERBOSE)
_FORMULA_OF_TEXT: Final = re.compile(r'="((?:[^"]|"")*)"')
# Separators of thousands beside point and comma.
_OTHER_GROUPS: Final = "'\N{RIGHT SINGLE QUOTATION MARK}\\s"
_NUMBER: Final = re.compile(rf"[0-9][0-9.,{_OTHER_GROUPS}]*")
_WHOLE: Final = re.compile(r"([0-9]+)(?:\.(0*))?")
_SCIENTIFIC: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+")
# More digits than any quantity needs.
MAX_DIGITS: Final = 30


class BadCell(ValueError):
    """A cell has no valid value: the reason completes "VALUE ..", the remedy is sentences."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def text_of(cell: str) -> str:
    """Return the text of a cell: trimmed, in NFC, without the marks of text in a spreadsheet."""
    text = cell.strip()
    if text.startswith("'") and SPREADSHEET_TEXT.match(text):
        text = text[1:]
    elif text.startswith('="') and (formula := _FORMULA_OF_TEXT.fullmatch(text)):
        text = formula[1].replace('""', '"')
    return normalized_text(text)


def marked_text(text: str) -> str:
    """Return a text with a mark if a spreadsheet would change it; an import drops the mark."""
    return f"'{text}" if SPREADSHEET_TEXT.match(text) else text


def quantity_of(text: str, decimal: str | None) -> int | None:
    """Return the quantity of a trimmed text; None if it leaves the level as it is.

    Raises:
        BadCell: the text is not a quantity, or two readings are possible.

    """
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return _in_range(int(text))
    if text.casefold() in BLANK_QUANTITIES:
        return None
    plain = text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    if plain.startswith("(") and plain.endswith(")"):
        plain = f"-{plain[1:-1].strip()}"
    elif plain.endswith("-") and not plain.startswith("-"):
        plain = f"-{plain[:-1].rstrip()}"
    negative = plain.startswith("-")
    number = _whole_number(plain[1:].lstrip() if plain[:1] in ("+", "-") else plain, decimal)
    if negative and number:
        raise BadCell(
            "is negative",
            "Stock on hand cannot be negative: write 0, or leave the cell empty to leave the level "
            "as it is.",
        )
    return _in_range(number)


def quantity_of_number(number: Decimal) -> int:
    """Return the quantity of a number of JSON that is written with a fraction or an exponent.

    Raises:
        BadCell: the number is not whole or written in scientific notation.

    """
    if not -MAX_DIGITS <= int(number.as_tuple().exponent) <= 0:
        raise BadCell("is in scientific notation", "Write the number in full.")
    if number != number.to_integral_value():
        raise BadCell("is not a whole number", "Stock is counted in whole units.")
    if number < 0:
        raise BadCell("is negative", "Stock on hand cannot be negative: write 0 or null.")
    # The conversion of a million digits takes a minute.
    return _in_range(int(number) if number.adjusted() < MAX_DIGITS else MAX_QUANTITY + 1)


def truth_of(text: str) -> bool | None:
    """Return the truth value of a trimmed text; None if it is empty.

    Raises:
        BadCell: the text is not a truth value.

    """
    if not text:
        return None
    value = TRUTH_VALUES.get(text.casefold())
    if value is None:
        raise BadCell("must be true or false")
    return value


def _in_range(number: int) -> int:
    if number > MAX_QUANTITY:
        raise BadCell(f"is more than {MAX_QUANTITY:,}")
    return number


def _whole_number(text: str, decimal: str | None) -> int:
    """Return the number of a text without a sign."""
    if decimal is not None:
        text = _without_groups(text, decimal)
    match = _WHOLE.fullmatch(text)
    if match and len(text) <= MAX_DIGITS and (decimal or not _may_be_grouped(text)):
        return int(match[1])
    if _SCIENTIFIC.fullmatch(text):
        raise BadCell(
            "is in scientific notation, as spreadsheets shorten long numbers",
            "Format the column as a number without decimals, and save the file again.",
        )
    if not _NUMBER.fullmatch(text):
        raise BadCell("is not a whole number", "Write digits only.")
    separators = sum(not char.isdigit() for char in text)
    if decimal is not None or (separators == 1 and "." in text and not _may_be_grouped(text)):
        if len(text) > MAX_DIGITS:
            raise BadCell(f"is more than {MAX_QUANTITY:,}")
        raise BadCell("is not a whole number", "Stock is counted in whole units.")
    if not separators:
        raise BadCell(f"is more than {MAX_QUANTITY:,}")
    raise BadCell(
        "is ambiguous: its separator may be a decimal point or one of thousands",
        "Say which character separates decimals: --decimal . or --decimal ,",
    )


def _may_be_grouped(text: str) -> bool:
    """Whether a point may separate thousands: 1.000, but not 5.0, 12.0000, 0.000 or 1234.000."""
    return re.fullmatch(r"[1-9][0-9]{0,2}\.[0-9]{3}", text) is not None


def _without_groups(text: str, decimal: str) -> str:
    """Return a number with its separators of thousands removed and a decimal point.

    Raises:
        BadCell: the separators do not stand between groups of three digits.

    """
    whole, point, fraction = text.partition(decimal)
    group = rf"[{_GROUPS[decimal]}{_OTHER_GROUPS}]"
    grouped = rf"[0-9]{{1,3}}(?:({group})[0-9]{{3}}(?:\1[0-9]{{3}})*)?"
    if not re.fullmatch(rf"{grouped}|[0-9]+", whole):
        if _NUMBER.fullmatch(text) and not _SCIENTIFIC.fullmatch(text):
            raise BadCell(
                f"does not fit --decimal {decimal}",
                "Its other separators must stand between groups of three digits.",
            )
        return text
    digits = re.sub(r"[^0-9]", "", whole)
    return f"{digits}.{fraction}" if point else digits
