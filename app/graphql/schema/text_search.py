"""The search of SKUs by the words of a text.

The index of words finds the SKUs of one word. The other words are compared with the titles of these
SKUs. So the cost of a search has a limit, however frequent its words are.
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

# Characters of titles per unit that are split into words.
SPLIT_CHARACTERS: Final = 2
# Other requests get a turn of the event loop after so many titles.
PAUSE_TITLES: Final = 200
TOO_FREQUENT: Final = (
    f"must have a word that begins fewer than {MAX_COUNT:,} words of SKUs; add or lengthen a word"
)


async def search(context: Context, words: tuple[str, ...]) -> list[str]:
    """Find the codes of the SKUs of which each of some words begins a word.

    Raises:
        ValidationFailed: each of the words is too frequent.
        QueryTooComplex: the titles are too long for the budget.

    """
    snapshot, tenant_id = context.snapshot, context.principal.tenant_id
    budget = context.budget
    # The longest word is probably the rarest one.
    for word in sorted(words, key=len, reverse=True):
        budget.spend(STATEMENT_COST + MAX_COUNT // ENTRIES_PER_UNIT)
        codes = await list_codes_with_word(snapshot, tenant_id, word=word)
        if codes is not None:
            break
    else:
        raise invalid_field("text", TOO_FREQUENT)
    if len(words) == 1 or not codes:
        return codes
    budget.spend(STATEMENT_COST + len(codes) * ROW_COST)
    titles = await get_titles(snapshot, tenant_id, codes=codes)
    budget.spend(sum(map(len, titles.values())) // SPLIT_CHARACTERS)
    found = []
    for number, (code, title) in enumerate(titles.items(), start=1):
        if matches_words(code, title, words):
            found.append(code)
        if number % PAUSE_TITLES == 0:
            await asyncio.sleep(0)
    return found
