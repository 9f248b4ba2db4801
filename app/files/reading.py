"""Reading of an import file into its staging."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from app.files.column_mapping import ColumnMapping, MappingOptions, map_columns
from app.files.columns import FileKind, FileRow
from app.files.parsing import ParsedTable, csv_table, json_table
from app.files.problems import ReportRows, RowProblem, UnreadableFile, listed
from app.files.row_reading import ParsedRow, RowReader
from app.files.sources import FileFormat, ImportSource, open_source
from app.files.staging import Duplicates, Staging
from app.files.warehouse_names import WarehouseNames
from app.files.workbooks import workbook_table

STAGING_BATCH_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions(MappingOptions):
    """The options of an import about the file."""

    form: FileFormat | None = None
    encoding: str | None = None
    duplicates: Duplicates = Duplicates.REFUSE
    # The namespace of the external ids that the file has instead of SKU codes.
    sku_namespace: str | None = None


@dataclass(slots=True)
class FileReading:
    """The recognised form of a file, and the rows that were passed over."""

    kind: FileKind
    layout: str | None = None
    notes: list[str] = field(default_factory=list)
    # The names of the file's columns by those of the import.
    labels: dict[str, str] = field(default_factory=dict)
    warehouse_labels: dict[str, str] = field(default_factory=dict)
    left_alone: int = 0
    passed_over: int = 0


def read_file(
    source: BinaryIO,
    staging: Staging,
    options: ReadOptions,
    warehouses: WarehouseNames,
    progress: ReportRows,
) -> FileReading:
    """Parse and stage a whole file; problems are stored, not raised.

    Duplicates of rows with external ids are found after these are resolved.
    """
    staging.kind = options.kind or FileKind.COUNTS
    reading = FileReading(staging.kind)
    try:
        with open_source(source, form=options.form, encoding=options.encoding) as opened:
            table = _table(opened, options)
            reading.notes += [*opened.notes, *table.notes]
            mapping = map_columns(
                table.header, table.line, options, warehouses, is_open=table.is_open
            )
            staging.kind = mapping.kind
            _describe(reading, mapping)
            reader = RowReader(mapping, warehouses)
            _read_rows(table.rows(mapping), reader, staging, progress)
            reading.left_alone = reader.left_alone
            reading.passed_over = reader.passed_over
    except UnreadableFile as error:
        staging.is_incomplete = True
        reason = f"{error.reason}; nothing below was read"
        staging.add_problems([RowProblem(line=error.line, reason=reason, remedy=error.remedy)])
    if options.sku_namespace is None:
        staging.find_duplicates(options.duplicates)
    return reading


def _table(source: ImportSource, options: ReadOptions) -> ParsedTable:
    if source.form is None:
        return workbook_table(source.content)
    table_of = csv_table if source.form is FileFormat.CSV else json_table
    return table_of(source.text(), options)


def _describe(reading: FileReading, mapping: ColumnMapping) -> None:
    reading.kind = mapping.kind
    if mapping.layout is not None:
        reading.layout = mapping.layout.name
    if description := mapping.describe():
        reading.notes.append(description)
    if mapping.unknown_columns:
        names = listed(mapping.unknown_columns)
        reading.notes.append(f"Warning: unknown columns were passed over: {names}.")
    reading.labels = {
        target: mapping.labels.get(sources[0], target)
        for target, sources in mapping.sources.items()
    }
    reading.warehouse_labels = {
        id_: mapping.labels[sources[0]] for id_, sources in mapping.warehouses.items()
    }


def _read_rows(
    parsed: Iterable[ParsedRow], reader: RowReader, staging: Staging, progress: ReportRows
) -> None:
    rows: list[tuple[int, FileRow]] = []
    read = 0

    def flush() -> None:
        staging.add_rows(rows)
        staging.add_problems([*reader.problems, *reader.warnings])
        for each in (rows, reader.problems, reader.warnings):
            each.clear()
        progress("rows read", read)

    try:
        for parsed_row in parsed:
            rows += [(parsed_row.line, row) for row in reader.rows_of(parsed_row)]
            read += 1
            if read % STAGING_BATCH_ROWS == 0:
                flush()
    finally:
        # Also the rows above a line that cannot be read.
        flush()
