"""Codes of a file that a spreadsheet or a keyboard may have changed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Final

from sqlalchemy import Text, bindparam, select

from app.database.parameters import TENANT
from app.database.snapshot import Snapshot
from app.database.tables import sku
from app.files.import_runs import UNKNOWN_SKU, FileRows, ImportRun
from app.files.problems import RowProblem, shown
from app.files.staging import Staging
from app.reads.similar_codes import find_other_spellings

SHORTENED: Final = "looks like a number that a spreadsheet shortened"
WITHOUT_ZEROS: Final = "also exists with more zeros, which a spreadsheet removes"
ALMOST_EXISTING: Final = "differs from another code only in case or in zeros"
# Shortened numbers of a file that are compared with codes, and codes that each is compared with.
MAX_SHORTENED: Final = 100
# Whole numbers from this length, such as EANs, are written without a decimal point.
ARTICLE_NUMBER_LENGTH: Final = 8
MAX_COMPARED: Final = 1_000
_SCIENTIFIC: Final = re.compile(r"([0-9])(?:[.,]([0-9]+))?[eE]\+?([0-9]{1,2})")
_DECIMAL: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?")
_DATE: Final = re.compile(
    r"([0-9]{1,2})[-. /]([A-Za-z]{3})[a-z]*|([A-Za-z]{3})[a-z]*[-. /]([0-9]{1,4})"
)
_MONTHS: Final = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_SEPARATORS: Final = re.compile(r"[\W_]+")
_RANGE: Final = (
    select(sku.c.sku)
    .where(
        sku.c.tenant_id == TENANT,
        sku.c.sku >= bindparam("first", type_=Text),
        sku.c.sku <= bindparam("last", type_=Text),
    )
    .order_by(sku.c.sku)
    .limit(MAX_COMPARED)
)


class SimilarCodes:
    """Compares the codes of a file with those of all SKUs, and describes the doubtful ones."""

    def __init__(self, run: ImportRun, staging: Staging) -> None:
        self._run = run
        self._staging = staging
        self._creates = run.creates_skus or run.kind == "skus"
        self._shortened_left = MAX_SHORTENED

    async def add_hints(
        self, snapshot: Snapshot, problems: Sequence[RowProblem]
    ) -> list[RowProblem]:
        """Return the problems of rows; those of unknown codes name a code that may be meant."""
        codes = {str(each.value) for each in problems if each.reason == UNKNOWN_SKU}
        spellings = {code: _spellings(code) for code in codes if not _SCIENTIFIC.fullmatch(code)}
        similar = await find_other_spellings(snapshot, self._run.tenant_id, spellings)
        for code in sorted(codes - spellings.keys()):
            if found := await self._rounded_to(snapshot, code):
                similar[code] = found
        return [
            replace(each, hint=_hint(str(each.value), similar))
            if each.reason == UNKNOWN_SKU
            else each
            for each in problems
        ]

    async def warn(
        self, snapshot: Snapshot, rows: FileRows, known: Mapping[str, object]
    ) -> list[RowProblem]:
        """Return warnings of codes that may be damaged ones of other SKUs."""
        lines = [(line, row["sku"]) for line, row in rows]
        codes = {
            code for _, code in lines if (_may_be_damaged(code) if code in known else self._creates)
        }
        spellings = {
            code: [*dict.fromkeys([code, *_spellings_with_zeros(code)])]
            for code in codes
            if not _SCIENTIFIC.fullmatch(code)
        }
        similar = await find_other_spellings(snapshot, self._run.tenant_id, spellings)
        return [
            warning
            for line, code in lines
            if code in codes
            for warning in self._warnings(line, code, similar.get(code), is_known=code in known)
        ]

    def _warnings(
        self, line: int, code: str, twin: str | None, *, is_known: bool
    ) -> Iterator[RowProblem]:
        if _SCIENTIFIC.fullmatch(code):
            yield self._warning(line, code, SHORTENED)
        elif twin is None:
            return
        elif not is_known:
            yield self._warning(line, code, ALMOST_EXISTING, f"The existing code is {shown(twin)}.")
        elif len(twin) > len(code) and not self._staging.has_code(twin):
            hint = f"The other code is {shown(twin)}; check which one is meant."
            yield self._warning(line, code, WITHOUT_ZEROS, hint)

    def _warning(self, line: int, code: str, reason: str, hint: str = "") -> RowProblem:
        return RowProblem(
            line=line,
            column=self._run.labels.get("sku", "sku"),
            value=code,
            reason=reason,
            hint=hint,
            is_warning=True,
        )

    async def _rounded_to(self, snapshot: Snapshot, code: str) -> str | None:
        """Return a code that a spreadsheet shortens to a number such as 4.26E+12."""
        number = _SCIENTIFIC.fullmatch(code)
        if number is None or not self._shortened_left:
            return None
        self._shortened_left -= 1
        digits, length = number[1] + (number[2] or ""), int(number[3]) + 1
        zeros = length - len(digits)
        if zeros < 0:
            return None
        middle, half = int(digits) * 10**zeros, 10**zeros // 2
        limits = {"first": str(middle - half), "last": str(middle + half)}
        rows = await snapshot.rows(_RANGE, {"tenant_id": self._run.tenant_id, **limits})
        return next((found for (found,) in rows if len(found) == length), None)


def _hint(code: str, similar: Mapping[str, str]) -> str:
    if code in similar:
        return f"Did you mean {shown(similar[code])}?"
    if _SCIENTIFIC.fullmatch(code):
        return f"It {SHORTENED}."
    return "It looks like a date that a spreadsheet made of a code." if _of_date(code) else ""


def _may_be_damaged(code: str) -> bool:
    if code[0] not in "123456789":
        return False
    return (_DECIMAL.fullmatch(code) or _SCIENTIFIC.fullmatch(code)) is not None


def _spellings(code: str) -> list[str]:
    """Return the spellings of a code in their order, as a spreadsheet or a keyboard change it."""
    separated = [_SEPARATORS.sub(mark, code) for mark in ("-", "", " ", "_", ".", "/")]
    texts = [code, *_spellings_with_zeros(code), *separated, *_of_date(code)]
    return [text for text in dict.fromkeys(texts) if text]


def _spellings_with_zeros(code: str) -> list[str]:
    """Return a number without zeros after the decimal point, and with one and two more."""
    whole, point, fraction = code.partition(".")
    if not _DECIMAL.fullmatch(code) or (not point and len(whole) >= ARTICLE_NUMBER_LENGTH):
        return []
    fraction = fraction.rstrip("0")
    return [f"{whole}.{fraction}{'0' * more}".rstrip(".") for more in range(3)]


def _of_date(code: str) -> list[str]:
    """Return codes of which a spreadsheet makes a date such as 2-Jan or Oct-12."""
    date = _DATE.fullmatch(code)
    if date is None:
        return []
    day, name = date[1] or date[4], (date[2] or date[3]).casefold()
    if name not in _MONTHS:
        return []
    number = str(_MONTHS.index(name) + 1)
    pairs = product((day, day.zfill(2)), (name, number, number.zfill(2)))
    return [spelling for a, b in pairs for spelling in (f"{a}-{b}", f"{b}-{a}")]
