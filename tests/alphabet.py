"""SKU codes that together contain every character that a code may contain."""

import sys
import unicodedata
from functools import cache

from app.domain.validation import MAX_SKU_LENGTH, normalized_code


@cache
def codes_of_the_alphabet() -> list[str]:
    """Codes of the longest length, in the order of their code points."""
    characters = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] in "LMNPS"
    ]
    codes = [
        normalized_code("".join(characters[start : start + MAX_SKU_LENGTH // 2]))
        for start in range(0, len(characters), MAX_SKU_LENGTH // 2)
    ]
    result = []
    for index in range(0, len(codes), 2):
        # The normal form may be longer than the text.
        pair = codes[index : index + 2]
        joined = " ".join(pair)
        result += [joined] if len(joined) <= MAX_SKU_LENGTH else pair
    return sorted(result)
