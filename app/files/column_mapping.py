"""The columns of a file: how its header becomes the columns of an import."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.files.cell_values import BadCell
from app.files.columns import (
    FILE_COLUMNS,
    QUANTITY_KINDS,
    STOCK_KINDS,
    TITLE_COLUMN,
    FileColumn,
    FileKind,
)
from app.files.layouts import (
    WAREHOUSE_PLACE,
    Layout,
    known_layouts,
    label_after,
    normal_name,
)
from app.files.problems import UnreadableFile, listed, shown
from app.files.warehouse_names import LIST_WAREHOUSES, WarehouseNames

# Other names of the documented columns.
_ALIASES: Final = {"warehouse": "warehouse_id", "warehouse name": "warehouse_id"}
_EXAMPLES: Final[Mapping[FileKind, str]] = {
    FileKind.SKUS: "sku,title",
    FileKind.WAREHOUSES: "name,type",
    FileKind.LEVELS: "sku,warehouse_id,on_hand",
    FileKind.COUNTS: "sku,warehouse_id,quantity",
    FileKind.REPORTS: "sku,warehouse_id,quantity",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingOptions:
    """The options of an import about columns."""

    # None: that of the layout, else counts.
    kind: FileKind | None = None
    # The layout of a file of the user; None: a known one that fits the header.
    layout: Layout | None = None
    # Names of the file's columns by those of the import.
    columns: Mapping[str, str] = field(default_factory=dict)
    decimal: str | None = None
    create_skus: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMapping:
    """The columns of a file for those of an import. Names are normal."""

    kind: FileKind
    layout: Layout | None
    decimal: str | None
    columns: Mapping[str, FileColumn]
    # Of several sources the first that is not blank counts.
    sources: Mapping[str, Sequence[str]]
    # The quantity columns of each warehouse; empty if each row has one quantity.
    warehouses: Mapping[str, Sequence[str]]
    # The names as the file writes them.
    labels: Mapping[str, str]
    # Columns that neither the import nor the layout knows.
    unknown_columns: Sequence[str]

    def describe(self) -> str | None:
        """Describe the layout and the columns with other names; None if there are none."""
        parts = [
            f"{target} from {', else '.join(shown(self.labels[source]) for source in sources)}"
            for target, sources in self.sources.items()
            if list(sources) != [normal_name(target)]
        ]
        parts += [
            f"the quantity in {id_} from "
            f"{', else '.join(shown(self.labels[source]) for source in sources)}"
            for id_, sources in self.warehouses.items()
        ]
        if self.layout is not None:
            parts.insert(0, f"layout {self.layout.name}")
        return f"Read as {self.kind}: {'; '.join(parts)}." if parts else None


def number_of_known_names(header: Sequence[str], options: MappingOptions) -> int:
    """Return how many names of a header an import knows, to find the delimiter."""
    known = {
        *(normal_name(name) for columns in FILE_COLUMNS.values() for name in columns),
        *_ALIASES,
        *(normal_name(name) for name in options.columns.values()),
        *(name for layout in known_layouts() for part in layout.header for name in part),
    }
    return sum(normal_name(name) in known for name in header)


def map_columns(
    header: Sequence[str],
    line: int,
    options: MappingOptions,
    warehouses: WarehouseNames,
    *,
    is_open: bool = False,
) -> ColumnMapping:
    """Map the header of a file to the columns of an import.

    If it is open, a row may have documented columns that the header lacks.

    Raises:
        UnreadableFile: a required column is missing, or a name is ambiguous.

    """
    labels = {normal_name(name): name.strip() for name in header}
    labels.pop("", None)
    layout = options.layout or next((it for it in known_layouts() if it.fits(labels)), None)
    kind = options.kind or (layout.kind if layout else FileKind.COUNTS)
    columns = dict(FILE_COLUMNS[kind])
    if options.create_skus and kind in STOCK_KINDS:
        columns["title"] = TITLE_COLUMN
    mapper = _Mapper(header, line, labels, layout, kind)
    sources = mapper.sources(columns, options)
    by_warehouse, without_warehouse = mapper.quantities_by_warehouse(sources, options, warehouses)
    if by_warehouse:
        sources.pop("quantity", None)
    mapper.require(columns, sources, by_warehouse, warehouses)
    used = {name for names in (*sources.values(), *by_warehouse.values()) for name in names} | set(
        layout.only if layout else ()
    )
    mapper.refuse_repeated(used)
    if is_open and not by_warehouse:
        sources = {target: [normal_name(target)] for target in columns} | sources
    return ColumnMapping(
        kind=kind,
        layout=layout,
        decimal=options.decimal or (layout.decimal if layout else None),
        columns=columns,
        sources=sources,
        warehouses=by_warehouse,
        labels=labels,
        unknown_columns=[
            label
            for name, label in labels.items()
            if name not in used
            and (label in without_warehouse or not (layout and layout.leaves_unused(name)))
        ],
    )


@dataclass(frozen=True, slots=True)
class _Mapper:
    header: Sequence[str]
    line: int
    labels: Mapping[str, str]
    layout: Layout | None
    kind: FileKind

    def sources(
        self, columns: Mapping[str, FileColumn], options: MappingOptions
    ) -> dict[str, Sequence[str]]:
        """Return the file's columns for each column of the import that has any."""
        targets = {normal_name(target): target for target in columns} | _ALIASES
        named = {
            targets.get(normal_name(name), name): source for name, source in options.columns.items()
        }
        if unknown := named.keys() - columns.keys():
            message = f"cannot be mapped: {self.kind} have no column {listed(sorted(unknown))}"
            raise self._refusal(message, f"They have {', '.join(columns)}.")
        result: dict[str, Sequence[str]] = {}
        for target in columns:
            if target in named:
                source = normal_name(named[target])
                if source not in self.labels:
                    message = f"has no column {shown(named[target])}"
                    raise self._refusal(message, f"It has {listed(self.labels.values())}.")
                result[target] = [source]
                continue
            of_layout = self.layout.columns.get(target, ()) if self.layout else ()
            aliases = [alias for alias, name in _ALIASES.items() if name == target]
            for candidates in (of_layout, [normal_name(target)], aliases):
                if present := [name for name in candidates if name in self.labels]:
                    result[target] = present
                    break
        return result

    def quantities_by_warehouse(
        self,
        sources: Mapping[str, Sequence[str]],
        options: MappingOptions,
        warehouses: WarehouseNames,
    ) -> tuple[dict[str, list[str]], list[str]]:
        """Return the quantity columns of each warehouse, if the file has a column for each.

        The second result are the columns whose warehouse is unknown.
        """
        if self.kind not in QUANTITY_KINDS or "quantity" in options.columns:
            return {}, []
        of_layout = self.layout.columns.get("quantity", ()) if self.layout else ()
        patterns = [name for name in of_layout if WAREHOUSE_PLACE in name]
        is_known = bool(patterns)
        if not patterns:
            if "quantity" in sources or "warehouse_id" in sources:
                return {}, []
            patterns = [WAREHOUSE_PLACE]
        result: dict[str, list[str]] = {}
        unknown: dict[str, str] = {}
        for name, label, place in self._warehouse_columns(patterns, sources):
            try:
                id_ = warehouses.find(place) if is_known else _existing(place, warehouses)
            except BadCell:
                unknown[label] = place
            else:
                if id_ is not None:
                    result.setdefault(id_, []).append(name)
        if unknown and not result:
            places = [*dict.fromkeys(unknown.values())]
            raise self._refusal(
                f"has a column for each warehouse, and none of {listed(places)} is a warehouse",
                f"{LIST_WAREHOUSES} To say which are meant, for each of them: "
                f"--warehouse {shown(f'{places[0]}=ID')}",
            )
        return result, list(unknown)

    def _warehouse_columns(
        self, patterns: Sequence[str], sources: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, str, str]]:
        """Yield the name and the label of columns, and the warehouse that they may name."""
        for pattern in patterns:
            before = pattern.removesuffix(WAREHOUSE_PLACE)
            for name, label in self.labels.items():
                if name.startswith(before) and (before or not self._is_used(name, sources)):
                    yield name, label, label_after(label, before)

    def require(
        self,
        columns: Mapping[str, FileColumn],
        sources: Mapping[str, Sequence[str]],
        by_warehouse: Mapping[str, Sequence[str]],
        warehouses: WarehouseNames,
    ) -> None:
        """Refuse a header without a required column."""
        given = set(sources)
        if by_warehouse:
            given |= {"warehouse_id", "quantity"}
        if warehouses.default:
            given.add("warehouse_id")
        missing = [
            name for name, column in columns.items() if column.required and name not in given
        ]
        if not missing:
            return
        if not sources:
            raise self._refusal(
                f"must name the columns, and has {listed(self.header)}",
                f"An example of a first line: {_EXAMPLES[self.kind]}",
            )
        others = [label for name, label in self.labels.items() if not self._is_used(name, sources)]
        has = f" The other columns are {listed(others)}." if others else ""
        if missing == ["warehouse_id"]:
            raise self._refusal(
                "does not say which warehouse: there is no column 'warehouse_id'",
                f"Name the warehouse of all rows by --warehouse ID, or its column by "
                f"--column warehouse_id=NAME.{has}",
            )
        raise self._refusal(
            f"lacks the column {listed(missing)}",
            f"Name it by --column {missing[0]}=NAME.{has}",
        )

    def refuse_repeated(self, used: set[str]) -> None:
        """Refuse a header that names a column twice that the import needs."""
        numbers = Counter(map(normal_name, self.header))
        if repeated := sorted(name for name in used if numbers[name] > 1):
            labels = listed(self.labels[name] for name in repeated)
            raise self._refusal(f"names a column twice: {labels}", "Rename or remove one of them.")

    def _is_used(self, name: str, sources: Mapping[str, Sequence[str]]) -> bool:
        if self.layout and self.layout.leaves_unused(name) and "*" not in self.layout.unused:
            return True
        return any(name in names for names in sources.values())

    def _refusal(self, reason: str, remedy: str) -> UnreadableFile:
        return UnreadableFile(self.line, reason, remedy)


def _existing(name: str, warehouses: WarehouseNames) -> str | None:
    """Return the warehouse that a column is named after, if any."""
    if name in warehouses.by_id:
        return name
    ids = warehouses.ids_of_name(name)
    return ids[0] if len(ids) == 1 else None
