"""Exports survive a spreadsheet: codes that LibreOffice opens and saves are imported unchanged."""

import csv
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from app.files import exports as exporting
from app.files.cell_values import SPREADSHEET_TEXT, BadCell, quantity_of, text_of

SOFFICE: Final = shutil.which("soffice")
CODES: Final = (
    *("01234", "0120450789", "100", "4260000000017", "90.750", "0", "007"),
    *("2-1", "1/2", "JAN-2", "2-Jan", "MARCH1", "12-10-2026", "2026-11-30", "3 Jan 2020"),
    *("1E5", "4.26E+12", "TRUE", "false", "10:30", "10 AM", "50%", "$5", "1,234", "1.2.3"),
    *("=1+1", "+49-KIT", "-5", "@x", "'0123", "''01", "'100", "'fine", "½", "1 1/2"),
    *("SKU-1", "Ü-1", "A,B", "5A", "1D5", 'a"b', "MAY", "3/4' HOSE"),
)
# Commas, quotes, UTF-8; the cells as they are shown.
OPTIONS: Final = "44,34,76,1,,0,false,true,false"


def saved_by_libreoffice(directory: Path, *tables: Path) -> list[list[str]]:
    """Open files and save them as CSV; the first column of each without its header."""
    command = [
        *(str(SOFFICE), "--headless", "--norestore", f"--infilter=CSV:{OPTIONS[:10]}"),
        f"-env:UserInstallation={(directory / 'profile').as_uri()}",
        *("--convert-to", f"csv:Text - txt - csv (StarCalc):{OPTIONS}"),
        *("--outdir", str(directory / "saved"), *map(str, tables)),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)  # noqa: S603 - fixed words
    columns = []
    for table in tables:
        with (directory / "saved" / table.name).open(encoding="utf-8-sig", newline="") as file:
            columns.append([row[0] for row in csv.reader(file)][1:])
    return columns


@pytest.mark.skipif(SOFFICE is None, reason="LibreOffice is not installed")
def test_codes_survive_libreoffice(tmp_path: Path) -> None:
    marked, bare = tmp_path / "marked.csv", tmp_path / "bare.csv"
    marked.write_bytes(exporting._csv([["sku", "title"], *((code, "x") for code in CODES)]))
    with bare.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["sku", "title"], *((code, "x") for code in CODES)])

    saved, damaged = saved_by_libreoffice(tmp_path, marked, bare)
    assert tuple(map(text_of, saved)) == CODES
    changed = {code for code, cell in zip(CODES, damaged, strict=True) if text_of(cell) != code}
    assert {"01234", "90.750", "=1+1"} <= changed


def test_plain_codes_have_no_mark() -> None:
    plain = ("SKU-1", "100", "12345678901", "5A", "MAY", "A1", "DECADE", "Ü-1", "'fine", "")
    assert [code for code in plain if SPREADSHEET_TEXT.match(code)] == []


@pytest.mark.parametrize(
    "text",
    [
        *("1" * 99_999, "1" * 99_999 + "x", "'" * 99_999, "'" * 99_999 + "1x", "1:" * 50_000),
        *("1 " * 50_000 + "x", "jan" * 30_000, "1." * 50_000, "may" + "a" * 99_999),
        *('="' + '"' * 99_999, "\u00a0" * 99_999 + "x1", "1e" * 50_000, "-" * 99_999),
    ],
    ids=range(13),
)
def test_long_texts_are_read_in_linear_time(text: str) -> None:
    # In quadratic time, each of these texts would take minutes.
    SPREADSHEET_TEXT.match(text)
    for decimal in (None, ".", ","):
        with suppress(BadCell):
            quantity_of(text_of(text), decimal)
