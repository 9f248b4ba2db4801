"""Damage to the export of a tenant, and a part of the message that refuses it."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.files.moves import Json, change_manifest, change_rows, give_to, replace_file, rows_of

Damage = Callable[[Path], object]
# Bytes that an import must not hold in memory at once.
HUGE: Final = 100_000_000


def _row(table: str, change: Callable[[Json], object], *, number: int = 0) -> Damage:
    return partial(change_rows, table=table, change=lambda rows: change(rows[number]))


def _rows(table: str, change: Callable[[list[Json]], object]) -> Damage:
    return partial(change_rows, table=table, change=change)


def _value(table: str, name: str, value: object, *, number: int = 0) -> Damage:
    return _row(table, lambda row: row.update({name: value}), number=number)


def _manifest(**values: object) -> Damage:
    return partial(change_manifest, change=lambda manifest: manifest.update(values))


def _name_in_manifest(name: str) -> Damage:
    def add(manifest: Json) -> None:
        manifest["files"][name] = manifest["files"]["sku.jsonl"]

    return partial(change_manifest, change=add)


def _link(name: str) -> Damage:
    def replace(directory: Path) -> None:
        outside = (directory / name).rename(directory.parent / name)
        (directory / name).symlink_to(outside)

    return replace


def _pipe(directory: Path) -> None:
    (directory / "sku.jsonl").unlink()
    os.mkfifo(directory / "sku.jsonl")


def _folder(directory: Path) -> None:
    (directory / "sku.jsonl").unlink()
    (directory / "sku.jsonl").mkdir()


def _huge_line(directory: Path) -> None:
    os.truncate(directory / "sku.jsonl", HUGE)


def _cut(directory: Path) -> None:
    file = directory / "adjustment.jsonl"
    os.truncate(file, file.stat().st_size - 200)


def _changed_byte(directory: Path) -> None:
    file = directory / "adjustment.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"initial_stock"', b'"initial_stocc"', 1))


def _bytes(table: str, before: bytes, after: bytes) -> Damage:
    def replace(directory: Path) -> None:
        content = (directory / f"{table}.jsonl").read_bytes()
        assert before in content
        replace_file(directory, table, content.replace(before, after, 1))

    return replace


DAMAGED_FILES: Final[Mapping[str, tuple[Damage, str]]] = {
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "it has no manifest.json"),
    "no file of a table": (lambda path: (path / "sku.jsonl").unlink(), "it has no sku.jsonl"),
    "a changed byte": (_changed_byte, "adjustment.jsonl is not as it was exported"),
    "a cut file": (_cut, "adjustment.jsonl is not as it was exported"),
    "a cut manifest": (
        lambda path: os.truncate(path / "manifest.json", 300),
        "manifest.json is not the manifest of an export",
    ),
    "another manifest": (
        lambda path: (path / "manifest.json").write_text("[]"),
        "manifest.json is not the manifest of an export",
    ),
    "a deep manifest": (
        lambda path: (path / "manifest.json").write_text('{"a":' + 500_000 * "["),
        "manifest.json is not the manifest of an export",
    ),
    "a newer format": (_manifest(format=2), "format 2, and this version imports format 1"),
    "a newer format with other fields": (_manifest(format=3, more=[]), "format 3"),
    "another revision": (_manifest(revision="9999"), "revision '9999'"),
    "an additional field": (_manifest(more=1), "unknown field"),
    "a path out of the directory": (
        _name_in_manifest("../../file.jsonl"),
        "it names '../../file.jsonl'",
    ),
    "a table that does not move": (_name_in_manifest("api_token.jsonl"), "'api_token.jsonl'"),
    "a file less": (_manifest(files={}), "it lacks 'adjustment.jsonl'"),
    "an invalid tenant id": (
        _manifest(tenant="../x"),
        "the tenant '../x', whose id must be 1 to 32",
    ),
    "the tenant of the demo": (
        lambda path: give_to("demo", path),
        "the tenant 'demo', whose id must not be demo",
    ),
    "the head of another tenant": (_manifest(tenant="other"), "has no head of this tenant"),
    "an invalid head": (_manifest(head="\x1b[2J"), "has no head of this tenant"),
    "two tenants": (
        _rows("tenant", lambda rows: rows.append(rows[0])),
        "does not say that the export has one tenant",
    ),
    "a manifest that is a link": (_link("manifest.json"), "cannot be opened as a regular file"),
    "a file that is a link": (_link("sku.jsonl"), "cannot be opened as a regular file"),
    "a file that is a pipe": (_pipe, "sku.jsonl of "),
    "a file that is a folder": (_folder, "is not a regular file"),
    "a line of 100 MB": (_huge_line, "sku.jsonl, line 4, is longer than 1048576 bytes"),
}
FOREIGN: Final = "wh_01HX000000000000000000FFFF"
BAD_ROWS: Final[Mapping[str, tuple[Damage, str]]] = {
    "a row twice": (
        _rows("adjustment", lambda rows: rows.append(rows[-1])),
        "the database refuses a row",
    ),
    "an id twice": (
        _rows("adjustment", lambda rows: rows[1].update(id=rows[0]["id"])),
        "adjustment.jsonl, lines 1 to ",
    ),
    "the warehouse of another tenant": (
        _value("stock_level", "warehouse_id", FOREIGN),
        "stock_level.jsonl, lines 1 to ",
    ),
    "a negative quantity": (
        _value("stock_level", "on_hand", -1),
        "stock_level.jsonl, lines 1 to ",
    ),
    "a tenant id in a row": (
        _row("sku", lambda row: row.update(tenant_id="other")),
        "sku.jsonl, line 1: Object contains unknown field",
    ),
    "an external id in another form": (
        _value("external_id", "value", "04006381333931"),
        "external_id.jsonl, line 1: value must be '4006381333931'",
    ),
    "an external id that is not valid": (
        _value("external_id", "namespace", "GTIN"),
        "external_id.jsonl, line 1: external_id.namespace must be 1 to 64",
    ),
    "an external id of another tenant's SKU": (
        _value("external_id", "sku", "none"),
        "external_id.jsonl, lines 1 to 2: the database refuses a row",
    ),
    "metadata that is not valid": (
        _value("sku", "metadata_entries", '[["a b","1"]]'),
        "sku.jsonl, line 1: metadata_entries has metadata.0.key, which must be 1 to 64",
    ),
    "metadata that is not JSON": (
        _value("warehouse", "metadata_entries", "{"),
        "warehouse.jsonl, line 1: ",
    ),
    "metadata in another form": (
        _value("sku", "metadata_entries", '[["b", "1"]]'),
        "sku.jsonl, line 1: metadata_entries is not written as the service writes it",
    ),
    "a missing column": (
        _row("sku", lambda row: row.pop("title")),
        "sku.jsonl, line 1: Object missing required field",
    ),
    "a NUL": (_value("adjustment", "note", "\x00"), "adjustment.jsonl, line 1: "),
    "a long note": (_value("adjustment", "note", 1_001 * "x"), "note must have at most 1000"),
    "an invalid reason": (_value("adjustment", "reason", "No reason"), "reason must be 1 to 64"),
    "an empty title": (_value("sku", "title", " "), "title must be 1 to 500"),
    "an invalid code": (_value("sku", "sku", ".."), "sku must not be '..'"),
    "an empty key": (_value("warehouse", "id", ""), "warehouse.jsonl, line 1: "),
    "a truth value for a number": (
        _row("stock_level", lambda row: row.update(holds=True)),
        "got `bool`",
    ),
    "a fraction": (_value("stock_level", "holds", 0.5), "got `float`"),
    "a huge number": (_value("stock_level", "on_hand", 10**30), "stock_level.jsonl, line 1: "),
    "a lone surrogate": (_bytes("sku", b'"title":"', rb'"title":"\ud800'), "sku.jsonl, line 1: "),
    "bytes that are not UTF-8": (_bytes("sku", b'"title":"', b'"title":"\xff'), "Invalid UTF-8"),
    "another spelling": (_bytes("sku", b'{"sku":', b'{ "sku":'), "not written as an export"),
    "a name twice": (
        _bytes("sku", b'{"sku":', b'{"sku":"A","sku":'),
        "not written as an export",
    ),
    "another time zone": (
        _value("warehouse", "created_at", "2026-01-01T00:00:00.000+01:00"),
        "not written as an export",
    ),
    "a time beyond the calendar": (
        _value("warehouse", "created_at", "9999-12-31T23:59:59.999-12:00"),
        "warehouse.jsonl, line 1: ",
    ),
    "microseconds": (
        _value("warehouse", "created_at", "2026-01-01T00:00:00.000001Z"),
        "not written as an export",
    ),
    "an empty line": (_bytes("sku", b"\n", b"\n\n"), "sku.jsonl, line 2: "),
    "another note": (_value("adjustment", "note", "No"), "is not as it was written"),
    "an adjustment less": (_rows("adjustment", lambda rows: rows.pop(2)), "position of adjustment"),
    "the last adjustment less": (
        _rows("adjustment", lambda rows: rows.pop()),
        "the ledger ends at position",
    ),
    "another quantity on hand": (_value("stock_level", "on_hand", 1), "on_hand of stock level"),
    "another reserved quantity": (_value("stock_level", "reserved", 1), "breaks a rule"),
    "another status": (_value("sku", "status", "low"), "status of SKU"),
    "no lines of reservations": (_rows("reservation_line", list.clear), "reserved of stock level"),
    "an author who is not a person": (
        _rows("person", list.clear),
        "who is not among the persons",
    ),
    "the address of another author": (
        _row("person", lambda row: row.update(email="other@example.com", salt="x")),
        "has an e-mail address that is not the one it was made of",
    ),
    "an older head": (
        lambda path: change_manifest(path, _take_head_of_first(path)),
        "and not at the head of the manifest",
    ),
}


def _take_head_of_first(directory: Path) -> Callable[[Json], object]:
    first: Any = rows_of(directory, "adjustment")[0]

    def change(manifest: Json) -> None:
        manifest["head"] = f"head_1.{manifest['tenant']}.1.{first['hash']}"

    return change
