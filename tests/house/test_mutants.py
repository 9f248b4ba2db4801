"""The text of every mutant exists in the code."""

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant, file_of


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_replaces_exactly_one_place(mutant: Mutant) -> None:
    assert file_of(mutant, ROOT).is_file()
