"""The search of SKUs by the words of a text.

The index finds the SKUs of each word, unless these are too many. Such a frequent word is compared
with the titles of the SKUs that have all the others. So the cost of a search has a limit.
"""

import asyncio
from typing import Final

from app.domain.words import matches_words
from app.errors import invalid_field
from app.graphql.schema.budget import ENTRIES_PER_UNIT, ROW_COST, STATEMENT_COST
from app.graphql.schema.context import Context
from app.reads.paging import MAX_COUNT
from app.reads.sku_words import list_codes_with_word
from app.reads.skus import get_titles

# Characters per unit that are split into words and compared with a word.
SPLIT_CHARACTERS: Final = 4
# Other requests get a turn of the event loop after so many titles.
PAUSE_TITLES: Final = 20
TOO_FREQUENT: Final = (
    f"is too general: each of its words begins {MAX_COUNT:,} or more words of SKUs; "
    "add or lengthen a word"
)


async def search(context: Context, words: tuple[str, ...]) -> list[str]:
    """Find the codes of the SKUs of which each of some words begins a word.

    Raises:
        ValidationFailed: each of the words is too frequent.
        QueryTooComplex: the titles that are compared are too long for the budget.

    """
    snapshot, tenant_id = context.snapshot, context.principal.tenant_id
    budget = context.budget
    codes: set[str] | None = None
    frequent = []
    for word in words:
        budget.spend(STATEMENT_COST + MAX_COUNT // ENTRIES_PER_UNIT)
        of_word = await list_codes_with_word(snapshot, tenant_id, word=word)
        if of_word is None:
            frequent.append(word)
        else:
            codes = of_word if codes is None else codes & of_word
    if codes is None:
        raise invalid_field("text", TOO_FREQUENT)
    if not frequent or not codes:
        return sorted(codes)
    budget.spend(STATEMENT_COST + len(codes) * ROW_COST)
    titles = await get_titles(snapshot, tenant_id, codes=sorted(codes))
    characters = sum(len(code) + len(title) for code, title in titles.items())
    budget.spend(characters * len(frequent) // SPLIT_CHARACTERS)
    found = []
    for number, (code, title) in enumerate(titles.items(), start=1):
        if matches_words(code, title, frequent):
            found.append(code)
        if number % PAUSE_TITLES == 0:
            await asyncio.sleep(0)
    return found
