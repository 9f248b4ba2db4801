"""Words of SKUs, for the search by text."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from typing import Final

from app.domain.validation import normalized_text

MAX_WORD_LENGTH: Final = 64
MAX_SEARCH_WORDS: Final = 8
_ASCII_WORD: Final = re.compile("[a-z0-9]+")
# The code points among which all marks are.
MARK_RANGES: Final = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))


def words_of(text: str) -> list[str]:
    """Words of a short text, case-folded and in NFC: letters and digits with their marks."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    folded = normalized_text(normalized_text(text).casefold())
    # The Turkish capital dotted I is folded to an i with a dot above, which nobody types.
    return _word().findall(folded.replace("i\u0307", "i").replace("_", " "))


def stored_words(code: str, title: str) -> set[str]:
    """Words of a SKU; of a longer word, the first MAX_WORD_LENGTH characters."""
    return {word[:MAX_WORD_LENGTH] for word in (*words_of(code), *words_of(title))}


def matches_words(code: str, title: str, words: Iterable[str]) -> bool:
    """Whether each word begins a word of the SKU."""
    stored = stored_words(code, title)
    return all(any(each.startswith(word) for each in stored) for word in words)


def search_problem(words: list[str]) -> str | None:
    """Describe the fault of the words of a search, if any."""
    if not 1 <= len(words) <= MAX_SEARCH_WORDS:
        return f"must have 1 to {MAX_SEARCH_WORDS} words of letters or digits, and has {len(words)}"
    return None


@cache
def _word() -> re.Pattern[str]:
    # The class \w has no marks, which many scripts need inside of a word.
    marks = [
        number
        for numbers in MARK_RANGES
        for number in numbers
        if unicodedata.category(chr(number))[0] == "M"
    ]
    # As ranges: single characters beyond U+FFFF are compared one after the other.
    runs = groupby(enumerate(marks), key=lambda pair: pair[1] - pair[0])
    ranges = [[number for _, number in run] for _, run in runs]
    # A mark alone starts no word: an emoji may be followed by an invisible selector.
    return re.compile(f"\\w[\\w{''.join(f'{chr(run[0])}-{chr(run[-1])}' for run in ranges)}]*")
