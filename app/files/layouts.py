"""Layouts: the columns of other systems' files, as declarative data."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, ValidationError, convert

from app.files.columns import FILE_COLUMNS, FileKind

WAREHOUSE_PLACE: Final = "{warehouse}"
_LAYOUTS: Final = Path(__file__).with_name("layouts.toml")
_SEPARATORS: Final = re.compile(r"[\s_\-\u200b\ufeff]+")
Names = str | Annotated[list[str], Meta(min_length=1)]


class BadLayout(Exception):
    """The file of a layout is invalid."""


class _LayoutTable(Struct, forbid_unknown_fields=True):
    """A table of the file of layouts."""

    header: Annotated[list[Names], Meta(min_length=1)]
    columns: dict[str, Names]
    kind: FileKind = FileKind.COUNTS
    unused: list[str] = []
    only: dict[str, str] = {}
    extract: dict[str, str] = {}
    blank: list[str] = []
    decimal: Literal[".", ","] | None = None
    quotes: bool = True
    skip_rows_without_sku: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layout of a file: how its columns become those of an import. Names are normal."""

    name: str
    kind: FileKind = FileKind.COUNTS
    header: Sequence[Sequence[str]] = ()
    columns: Mapping[str, Sequence[str]]
    unused: Sequence[str] = ()
    only: Mapping[str, str]
    extract: Mapping[str, re.Pattern[str]]
    blank: frozenset[str] = frozenset()
    decimal: str | None = None
    quotes: bool = True
    skip_rows_without_sku: bool = False

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a header with these normal names has the layout."""
        present = set(names)
        return all(not present.isdisjoint(alternatives) for alternatives in self.header)

    def leaves_unused(self, name: str) -> bool:
        """Whether the layout has a column that no import uses."""
        return any(fnmatchcase(name, pattern) for pattern in self.unused)


def normal_name(name: str) -> str:
    """Return a column name for comparison: trimmed, without case; spaces, _ and - are equal."""
    return _SEPARATORS.sub(" ", name).strip().casefold()


def label_after(label: str, normal_start: str) -> str:
    """Return the rest of a column name after its first words, given in normal form."""
    words = len(normal_start.split())
    return _SEPARATORS.split(label.strip(), maxsplit=words)[words] if words else label


@cache
def known_layouts() -> tuple[Layout, ...]:
    """Return all layouts; of several that fit a header, the first counts."""
    return tuple(read_layouts(_LAYOUTS))


def read_layouts(path: Path) -> list[Layout]:
    """Read the layouts of a TOML file.

    Raises:
        BadLayout: the file is invalid.

    """
    try:
        tables = convert(tomllib.loads(path.read_text("utf-8")), dict[str, _LayoutTable])
        return [_layout(name, table) for name, table in tables.items()]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError, re.error) as error:
        message = f"{path.name} has no valid layout: {error}. app/files/layouts.toml has examples."
        raise BadLayout(message) from error


def _layout(name: str, table: _LayoutTable) -> Layout:
    known = {target for columns in FILE_COLUMNS.values() for target in columns}
    if unknown := sorted({*table.columns, *table.extract} - known):
        message = f"{name}: an import has no column {', '.join(unknown)}"
        raise ValidationError(message)
    if any(re.compile(pattern).groups != 1 for pattern in table.extract.values()):
        message = f"{name}: a pattern of extract must have one group"
        raise ValidationError(message)
    return Layout(
        name=name,
        kind=table.kind,
        header=[_normal_names(names) for names in table.header],
        columns={target: _normal_names(names) for target, names in table.columns.items()},
        unused=[normal_name(pattern) for pattern in table.unused],
        only={normal_name(column): value for column, value in table.only.items()},
        extract={target: re.compile(pattern) for target, pattern in table.extract.items()},
        blank=frozenset(text.casefold() for text in table.blank),
        decimal=table.decimal,
        quotes=table.quotes,
        skip_rows_without_sku=table.skip_rows_without_sku,
    )


def _normal_names(names: Names) -> list[str]:
    return [normal_name(name) for name in ([names] if isinstance(names, str) else names)]
