"""Workbooks of Excel: their values, and workbooks that are damaged or made to do harm."""

import gzip
import io
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from openpyxl import Workbook

from app.files import sources, workbook_reader
from app.files.columns import FileKind
from tests.files.importing import staged

HEADER = ("sku", "warehouse_id", "quantity", "note")
# Rows without cells take time to count.
FEW_ROWS = 10_000
MAIN_SHEET = "xl/worksheets/sheet1.xml"


def sheet_in(book: Workbook) -> Any:
    return book.worksheets[0]


def workbook(
    rows: Sequence[Sequence[Any]], change: Callable[[Workbook], None] | None = None
) -> bytes:
    book = Workbook()
    for row in rows:
        sheet_in(book).append(row)
    if change:
        change(book)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def with_part(content: bytes, name: str, part: bytes) -> bytes:
    """Replace a part of a workbook."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, part if info.filename == name else old.read(info))
        if name not in old.namelist():
            new.writestr(name, part)
    return target.getvalue()


def sheet_of(rows: str) -> bytes:
    return (
        '<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/'
        f'2006/main"><sheetData>{rows}</sheetData></worksheet>'
    ).encode()


def with_shared_texts(content: bytes, texts: bytes) -> bytes:
    """Add a part with shared texts, which openpyxl does not write."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        types = archive.read("[Content_Types].xml")
    entry = (
        b'<Override PartName="/xl/sharedStrings.xml" ContentType="application/vnd.openxmlformats-'
        b'officedocument.spreadsheetml.sharedStrings+xml"/></Types>'
    )
    content = with_part(content, "[Content_Types].xml", types.replace(b"</Types>", entry))
    namespace = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    part = b'<sst xmlns="%s">%s</sst>' % (namespace, texts)
    return with_part(content, "xl/sharedStrings.xml", part)


def text_row(number: int, *texts: str) -> str:
    cells = "".join(f'<c t="inlineStr"><is><t>{text}</t></is></c>' for text in texts)
    return f'<row r="{number}">{cells}</row>'


def reasons(content: bytes) -> list[tuple[int, str]]:
    staging = staged(content, FileKind.COUNTS)
    result = [(each.line, f"{each.reason}. {each.remedy}") for each in staging.problems()]
    staging.close()
    return result


def test_values_of_a_workbook_are_those_that_it_shows() -> None:
    def change(book: Workbook) -> None:
        sheet_in(book)["A6"].number_format = "00000"
        book.create_sheet("Notes", 0).sheet_state = "hidden"

    content = workbook(
        [
            (),
            HEADER,
            ("A", "w", 3, None),
            (),
            ("4260000000017", "w", 5.0, datetime(2026, 3, 1)),  # noqa: DTZ001 - of a sheet
            (1234, "w", "7", True),
            (90.75, "w", None, None),
            ("B", "w", 2.5, None),
            ("C", "w", -1, "x"),
        ],
        change,
    )
    staging = staged(content, FileKind.COUNTS)
    rows = [(line, row["sku"], row["quantity"]) for [(line, row)] in staging.batches(1)]
    problems = [(each.line, each.value, each.reason) for each in staging.problems()]
    staging.close()

    assert rows == [(5, "4260000000017", 5), (3, "A", 3)]
    assert problems == [
        (6, "True", "must be text"),
        (8, "2.5", "is not a whole number"),
        (9, "-1", "is negative"),
    ]


def test_codes_of_numbers_are_text() -> None:
    def change(book: Workbook) -> None:
        sheet_in(book)["A2"].number_format = "00000"

    content = workbook(
        [HEADER, (1234, "w", "7", datetime(2026, 3, 1)), (4260000000017.0, "w", 5.0)],  # noqa: DTZ001
        change,
    )
    staging = staged(content, FileKind.COUNTS)
    rows = [(row["sku"], row["quantity"], row["note"]) for [(_, row)] in staging.batches(1)]
    staging.close()

    assert rows == [("01234", 7, "2026-03-01"), ("4260000000017", 5, None)]


@pytest.mark.parametrize(
    ("part", "content", "line", "named"),
    [
        (MAIN_SHEET, sheet_of('<row r="1"><c r="A1"><v>x</v></c></row>'), 1, "damaged workbook"),
        (MAIN_SHEET, b"<worksheet", 1, "damaged workbook"),
        (MAIN_SHEET, sheet_of(""), 1, "is empty"),
        (
            MAIN_SHEET,
            sheet_of(
                '<row r="1"><c r="A1" t="inlineStr"><is><t>sku</t></is></c>'
                '<c r="B1" t="inlineStr"><is><t>warehouse_id</t></is></c>'
                '<c r="C1" t="inlineStr"><is><t>quantity</t></is></c></row>'
                '<row r="99999999999"><c r="A99999999999"><v>1</v></c></row>'
            ),
            FEW_ROWS + 1,
            "is beyond the last row",
        ),
        (
            MAIN_SHEET,
            b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
            b"<worksheet>&b;</worksheet>",
            1,
            "damaged workbook",
        ),
        ("content.xml", b"", 1, "is an OpenDocument spreadsheet"),
    ],
)
def test_a_harmful_workbook_is_refused(
    part: str, content: bytes, line: int, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook_reader, "MAX_ROWS", FEW_ROWS)
    book = with_part(workbook([HEADER]), part, content)

    tracemalloc.start()
    [(where, reason)] = reasons(book)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (where, named in reason) == (line, True), reason
    assert peak < 32 * 1_048_576


def test_cells_beyond_the_columns_of_a_table_are_ignored() -> None:
    rows = "".join(f'<row r="{row}"><c r="ZZZ{row}"><v>1</v></c></row>' for row in range(2, 200))
    header = '<row r="1"><c r="A1" t="inlineStr"><is><t>sku</t></is></c></row>'
    [(_, reason)] = reasons(with_part(workbook([]), MAIN_SHEET, sheet_of(header + rows)))
    assert "lacks the column" in reason


MANY = 10_000
TREES = {
    "row": with_part(workbook([]), MAIN_SHEET, sheet_of(f"<row>{'<c/>' * MANY}</row>")),
    "end-of-row-in-a-text": with_part(
        workbook([]), MAIN_SHEET, sheet_of("<row>" + '<c a="/row>"/>' * MANY + "</row>")
    ),
    "end-of-row-in-a-comment": with_part(
        workbook([]), MAIN_SHEET, sheet_of(f"<!-- {'</row>' * MANY} -->")
    ),
    "rows-with-one-number": with_part(workbook([]), MAIN_SHEET, sheet_of('<row r="1"/>' * MANY)),
    "before-the-rows": with_part(workbook([]), MAIN_SHEET, b"<worksheet>" + b"<a/>" * MANY),
    "styles": with_part(workbook([]), "xl/styles.xml", b"<s>" + b"<xf/>" * MANY + b"</s>"),
    "workbook": with_part(workbook([]), "xl/workbook.xml", b"<s>" + b"<a/>" * MANY + b"</s>"),
    "theme": with_part(workbook([]), "xl/theme/theme1.xml", b" " * 5 * MANY),
    "types": with_part(workbook([]), "[Content_Types].xml", b"<s>" + b"<a/>" * MANY + b"</s>"),
    "text": with_shared_texts(workbook([]), b"<si>" + b"<r/>" * MANY + b"</si>"),
    "texts": with_shared_texts(workbook([]), b"<si/>" * MANY),
    "spaces": with_shared_texts(workbook([]), b" " * 5 * MANY),
}


@pytest.mark.parametrize("name", TREES)
def test_a_part_that_unpacks_to_a_large_tree_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook_reader, "MAX_TREE_BYTES", 3 * MANY)
    monkeypatch.setattr(workbook_reader, "MAX_ROWS", MANY // 2)
    monkeypatch.setattr(workbook_reader, "MAX_SHARED_TEXTS", MANY // 2)
    assert len(TREES[name]) < 3 * MANY

    tracemalloc.start()
    [(_, reason)] = reasons(TREES[name])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "too many bytes" in reason
    assert peak < 16 * 1_048_576


def test_the_shared_texts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook_reader, "MAX_SHARED_TEXTS", len(HEADER))
    texts = "".join(f"<si><t>{name}</t></si>" for name in HEADER)
    header = "".join(f'<c t="s"><v>{number}</v></c>' for number in range(len(HEADER)))
    content = with_part(workbook([]), MAIN_SHEET, sheet_of(f"<row>{header}</row>"))

    assert reasons(with_shared_texts(content, texts.encode())) == []
    [(_, reason)] = reasons(with_shared_texts(content, (texts + "<si/>").encode()))
    assert "too many bytes" in reason


@pytest.mark.parametrize("limit", ["MAX_SHARED_TEXT_BYTES", "MAX_SHEET_BYTES"])
def test_the_size_of_a_stream_is_limited(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = with_shared_texts(workbook([HEADER, ("A", "w", 1)]), b"<si><t>x</t></si>" * 9)
    assert reasons(content) == []
    monkeypatch.setattr(workbook_reader, limit, 99)
    [(_, reason)] = reasons(content)
    assert "too many bytes" in reason


def test_formats_of_rows_take_no_memory() -> None:
    formats = " ".join(f'a{number}="{number:0100}"' for number in range(50))
    rows = "".join(f'<row r="{row}" {formats}/>' for row in range(2, 1_000))
    content = with_part(workbook([]), MAIN_SHEET, sheet_of(text_row(1, *HEADER) + rows))

    tracemalloc.start()
    assert reasons(content) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 1_048_576


def test_parts_below_the_rows_may_be_large() -> None:
    below = "<mergeCells>" + '<mergeCell ref="A1:B1"/>' * 100_000 + "</mergeCells></worksheet>"
    sheet = sheet_of(text_row(1, *HEADER) + text_row(2, "A", "w", "x"))
    content = with_part(workbook([]), MAIN_SHEET, sheet.replace(b"</worksheet>", below.encode()))

    [(line, reason)] = reasons(content)
    assert (line, "is not a whole number" in reason) == (2, True)


def test_a_sheet_whose_part_is_beside_the_others_is_read() -> None:
    """The name of a part says nothing about its kind."""
    content = with_part(workbook([HEADER]), "xl/worksheets/texts.xml", b" " * 2_000_000)
    assert reasons(content) == []


@pytest.mark.parametrize("number", [256, 257, 263])
def test_columns_beyond_the_256th_are_ignored(number: int) -> None:
    more = [f"x{place}" for place in range(number - 3)]
    content = workbook([(*HEADER[:3], *more), ("A", "w", 1, *more), ("B", "w", 2)])
    staging = staged(content, FileKind.COUNTS)
    rows = [(line, row["quantity"]) for line, row in next(staging.batches(9))]
    assert (rows, [*staging.problems()]) == ([(2, 1), (3, 2)], [])
    staging.close()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"PK\x03\x04 no archive", "is a damaged ZIP archive"),
        (with_part(b"PK\x05\x06" + bytes(18), "stock.csv", b"sku"), "Unpack it"),
    ],
)
def test_other_archives_are_named(content: bytes, named: str) -> None:
    [(_, reason)] = reasons(content)
    assert named in reason


def test_a_missing_package_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.delitem(sys.modules, "app.files.workbook_reader")
    [(_, reason)] = reasons(workbook([HEADER]))
    assert "save the sheet as CSV (UTF-8)" in reason
    assert "inventory-api[xlsx]" in reason


def test_a_gzip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FREELY_UNPACKED_BYTES", 1_000_000)
    bomb = gzip.compress(bytes(8_000_000))
    tracemalloc.start()
    [(_, reason)] = reasons(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "bytes when it is unpacked" in reason
    assert peak < 6 * 1_048_576
