"""Small files that could take long: each value is looked at a limited number of times."""

import difflib
from decimal import Decimal

import pytest

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files import column_mapping, parsing
from app.files.cell_values import MAX_DIGITS, BadCell, quantity_of_number
from app.files.column_mapping import MappingOptions, map_columns
from app.files.columns import FileKind
from app.files.problems import UnreadableFile
from app.files.warehouse_names import MAX_NEAR_MISSES, WarehouseNames

MANY = 400


class Counted(str):
    """A text that counts comparisons."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        """Compare and count."""
        Counted.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class Unconverted(Decimal):
    """A number whose conversion takes quadratic time."""

    def __int__(self) -> int:
        """Fail."""
        pytest.fail("converted")


def test_names_of_json_are_compared_with_few_others() -> None:
    pairs: list[tuple[str, object]] = [(Counted(f"n{number}"), 1) for number in range(MANY)]
    pairs += [(Counted("n399"), 2)]
    Counted.comparisons = 0
    repeated = parsing._unique_names(pairs)

    assert isinstance(repeated, parsing._RepeatedName)
    assert repeated.name == "n399"
    assert Counted.comparisons < 3 * MANY


def test_names_of_a_header_are_compared_with_few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_mapping, "normal_name", lambda name: Counted(name.casefold()))
    names = WarehouseNames("t", [])
    places = [f"w{number}" for number in range(MANY)]
    for place in places:
        names._create(place)
    Counted.comparisons = 0
    with pytest.raises(UnreadableFile, match="names a column twice: 'w1'"):
        map_columns(["sku", *places, "w1"], 1, MappingOptions(kind=FileKind.COUNTS), names)
    assert Counted.comparisons < 20 * MANY


@pytest.mark.parametrize("digits", [MAX_DIGITS + 1, 100_000])
def test_a_long_number_is_refused_unconverted(digits: int) -> None:
    with pytest.raises(BadCell, match="is more than"):
        quantity_of_number(Unconverted("1" * digits + ".0"))


def test_unknown_warehouses_are_compared_with_the_known_ones_ten_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = WarehouseRecord("wh_1", "Main", WarehouseType.OWN, None, None, is_active=True)
    names = WarehouseNames("t", [main])
    compared = []

    def compare(_text: str, texts: dict[str, str], n: int) -> list[str]:
        compared.append(texts)
        return [*texts][:n]

    monkeypatch.setattr(difflib, "get_close_matches", compare)
    for number in range(3 * MAX_NEAR_MISSES):
        with pytest.raises(BadCell):
            names.find(f"x{number}")
    assert compared == [{"wh_1": "wh_1", "main": "Main"}] * MAX_NEAR_MISSES
    assert all(texts is compared[0] for texts in compared)
