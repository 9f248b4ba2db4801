"""Files as people have them are imported, or refused with the value, the reason and the remedy."""

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.files import imports as importing
from app.files.imports import FileRefused
from app.files.problems import MAX_SHOWN_LENGTH
from tests.databases import copied, migrated
from tests.files.cases import BOOK, CONTAINER_CASES, COUNTS, LAYOUT_CASES, Case
from tests.files.commands import TENANT, Commands
from tests.files.value_cases import DAMAGE_CASES, VALUE_CASES, WAREHOUSE_CASES

CASES = [*LAYOUT_CASES, *CONTAINER_CASES, *VALUE_CASES, *DAMAGE_CASES, *WAREHOUSE_CASES]


@pytest.fixture(scope="module")
def catalogue_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a migrated SQLite database, which the first case fills."""
    directory = tmp_path_factory.mktemp("catalogue")
    return migrated(f"sqlite+aiosqlite:///{directory / 'catalogue.db'}")


@pytest.fixture
def commands(
    catalogue_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Commands:
    """Return commands on a database with the catalogue of the cases."""
    loaded = Path(catalogue_url.partition("///")[2]).with_suffix(".loaded")
    if not loaded.exists():
        Commands(catalogue_url, monkeypatch, capfd).load_catalogue(tmp_path)
        loaded.touch()
    return Commands(copied(catalogue_url, tmp_path), monkeypatch, capfd)


def on_hand(commands: Commands) -> dict[tuple[str, str], int]:
    path = commands.database_url.partition("///")[2]
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT sku, warehouse_id, on_hand FROM stock_level")
        return {(sku, warehouse_id): number for sku, warehouse_id, number in rows}


def written(case: Case, directory: Path) -> Path:
    path = directory / "file.csv"
    content = case.content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_file_has_its_outcome(case: Case, commands: Commands, tmp_path: Path) -> None:
    done = commands.import_file(written(case, tmp_path), *case.options)

    output = done.stdout + done.stderr
    for text in case.says:
        assert text in output
    assert done.status == (0 if case.levels or case.succeeds else 1), output
    assert on_hand(commands) == case.levels
    assert "\x1b" not in output
    assert "Traceback" not in output


def test_the_names_of_cases_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


@pytest.fixture
def commands_of_both(
    own_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Commands]:
    """Return commands on a database of each engine with the catalogue of the cases."""
    commands = Commands(own_database_url, monkeypatch, capfd)
    commands.load_catalogue(tmp_path)
    yield commands
    assert commands.run("verify").status == 0


def test_files_of_stock_are_imported_one_after_another(
    commands_of_both: Commands, tmp_path: Path
) -> None:
    cases = [case for case in (*LAYOUT_CASES, *DAMAGE_CASES) if case.levels]
    for case in cases:
        # The export of the case contradicts a report before it.
        if case.name != "own-export":
            done = commands_of_both.import_file(written(case, tmp_path), *case.options, "--json")
            assert (done.status, case.name) == (0, case.name), done


def test_new_skus_and_warehouses_are_as_the_dry_run_says(
    commands_of_both: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "new.csv"
    path.write_text(
        "sku,title,warehouse,quantity\nNEW-1,New,Lager Süd,3\nNEW-1,New,wh_main,4\n"
        "NSC-TEE-S,Tee S,lager  süd,5\nBAD,,Lager Nord,-1\n",
        encoding="utf-8",
    )
    options = ("--create-skus", "--create-warehouses", "--on-error", "continue", "--json")
    dry = json.loads(commands_of_both.import_file(path, *options, "--dry-run").stdout)
    done = json.loads(commands_of_both.import_file(path, *options).stdout)

    assert dry == done | {"dry_run": True}
    assert (done["created"], done["refused"], done["new_skus"]) == (3, 1, 1)
    assert list(done["new_warehouses"].values()) == ["Lager Süd"]
    again = json.loads(commands_of_both.import_file(path, *options).stdout)
    assert (again["updated"], again["new_skus"], again["new_warehouses"]) == (3, 0, {})
    listing = commands_of_both.run("export", "skus", "--tenant", TENANT, "--format", "jsonl")
    rows = [json.loads(line) for line in listing.stdout.splitlines()]
    assert [row["title"] for row in rows if row["sku"] == "NEW-1"] == ["New"]


@pytest.mark.parametrize(
    ("content", "kind", "created", "refused"),
    [
        (
            "sku,wh_main,wh_fba,wh_shop\nNSC-BOOK-1,3,4,5\nNSC-TEE-S,,,6\nNSC-TEE-M,1,2,\n",
            "counts",
            1,
            2,
        ),
        (
            "name,type,marketplace,id\nA,own,ebay,\nB,own,,\nC,own,,wh_fba\n",
            "warehouses",
            1,
            2,
        ),
    ],
)
def test_bad_rows_are_left_out_as_the_dry_run_says(
    content: str, kind: str, created: int, refused: int, commands: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "file.csv"
    path.write_text(content, encoding="utf-8")
    options = ("--kind", kind, "--on-error", "continue", "--json")
    dry = json.loads(commands.import_file(path, *options, "--dry-run").stdout)
    done = json.loads(commands.import_file(path, *options).stdout)

    assert dry == done | {"dry_run": True}
    assert (done["created"], done["updated"], done["refused"]) == (created, 0, refused)


def test_the_same_feed_is_written_every_day_and_a_named_one_once(
    commands_of_both: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "feed.csv"
    path.write_text(f"{COUNTS}1234,wh_main,3\n100,wh_main,4\nNOPE,wh_main,1\n", encoding="utf-8")
    options = ("--on-error", "continue", "--json")

    def tally(*more: str) -> tuple[int, int, int]:
        done = commands_of_both.import_file(path, *options, *more)
        assert done.stderr.count("also exists with more zeros") == 1
        numbers = json.loads(done.stdout)
        return numbers["created"], numbers["updated"], numbers["already_imported"]

    assert tally("--dry-run") == (2, 0, 0)
    assert tally() == (2, 0, 0)
    assert [tally() for _ in range(4)] == [(0, 2, 0)] * 4
    assert [tally("--run", "A") for _ in range(2)] == [(0, 2, 0), (0, 0, 2)]
    listing = commands_of_both.run("export", "ledger", "--tenant", TENANT, "--format", "jsonl")
    assert len({json.loads(line)["bulk_id"] for line in listing.stdout.splitlines()}) == 6


def test_an_interrupted_import_continues(
    commands_of_both: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "feed.csv"
    path.write_text(f"{COUNTS}1234,wh_main,3\n100,wh_main,4\n", encoding="utf-8")
    commands_of_both.import_file(path)
    write_batch = importing._write_batch
    left = iter([True])

    async def interrupted(*arguments: Any) -> Any:
        if not next(left, False):
            raise FileRefused("interrupted")
        return await write_batch(*arguments)

    monkeypatch.setattr(importing, "IMPORT_BATCH_ROWS", 1)
    with monkeypatch.context() as patched:
        patched.setattr(importing, "_write_batch", interrupted)
        assert commands_of_both.import_file(path).status == 1
    done = commands_of_both.import_file(path, "--json")
    numbers = json.loads(done.stdout)
    assert (numbers["updated"], numbers["already_imported"]) == (1, 1)
    assert "imported again" in commands_of_both.import_file(path).stderr


def test_reports_follow_the_rules_of_the_sync(commands_of_both: Commands, tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_text("sku,quantity\nNSC-BOOK-1,7\nNSC-TEE-S,0\n", encoding="utf-8")
    options = ("--kind", "reports", "--warehouse", "wh_fba", "--json", "--reported-at")

    def tally(instant: str) -> dict[str, int]:
        done = json.loads(commands_of_both.import_file(path, *options, instant).stdout)
        return {key: done[key] for key in ("created", "updated", "unchanged", "superseded")}

    nothing = dict.fromkeys(("created", "updated", "unchanged", "superseded"), 0)
    assert tally("2026-03-02") == nothing | {"created": 1, "unchanged": 1}
    assert tally("2026-03-02T00:00:00Z") == nothing | {"unchanged": 2}
    path.write_text("sku,quantity\nNSC-BOOK-1,9\n", encoding="utf-8")
    assert tally("2026-03-01T23:59:59.999Z") == nothing | {"superseded": 1}
    assert tally("2026-03-02T02:00+01:00") == nothing | {"updated": 1}
    done = commands_of_both.import_file(path, *options, "yesterday")
    assert (done.status, "'yesterday' is not an ISO date" in done.stderr) == (1, True)


def test_the_report_lists_every_problem(commands: Commands, tmp_path: Path) -> None:
    path, report = tmp_path / "counts.csv", tmp_path / "report.jsonl"
    rows = "".join(f"S{number},wh_main,{number}\n" for number in range(30))
    long = "x" * 60
    path.write_text(f"{COUNTS}{rows}1234,wh_main,1\n{long},\x1b[31m,-1\n", encoding="utf-8")

    done = commands.import_file(path, "--report", str(report))
    assert (done.status, done.stderr.count("is not the code of a SKU")) == (1, 1)
    assert "30 rows, first at line 2, column 'sku': 'S0' is not the code of a SKU." in done.stderr
    listed = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert [each["line"] for each in listed] == [*range(2, 33), 33, 33]
    assert listed[0] == {
        "line": 2,
        "severity": "error",
        "column": "sku",
        "value": "'S0'",
        "reason": "is not the code of a SKU",
        "remedy": "Import the SKU first, or create it by --create-skus.",
    }
    assert listed[30]["severity"] == "warning"
    assert all(len(each["value"]) <= MAX_SHOWN_LENGTH + 10 for each in listed)
    assert "\x1b" not in report.read_text(encoding="utf-8")
    commands.import_file(path, "--report", str(tmp_path / "report.csv"))
    table = (tmp_path / "report.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "line,severity,column,value,reason,remedy"
    assert len(table) == 1 + len(listed)


def test_a_terminal_gets_no_control_characters_of_a_file_name(
    commands: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "a\x1b[31m.csv"
    path.write_text(f"{COUNTS}NOPE,wh_main,1\n", encoding="utf-8")
    done = commands.import_file(path)
    assert (done.status, "\x1b" in done.stderr, "\\x1b" in done.stderr) == (1, False, True)


def test_a_terminal_gets_no_control_characters_of_a_layout(
    commands: Commands, tmp_path: Path
) -> None:
    path, layout = tmp_path / "stock.csv", tmp_path / "layout.toml"
    path.write_text("Code,Free\nNSC-BOOK-1,3\n", encoding="utf-8")
    columns = 'columns = { sku = "Code", quantity = "Free" }\n'
    named = f'["\\u001b[31m"]\nheader = ["Code"]\n{columns}'
    for text in (named, named + '"\\u001b[31m" = 1\n', named.replace("quantity", '"\\u001b"')):
        layout.write_text(text, encoding="utf-8")
        done = commands.import_file(path, "--layout", str(layout), "--warehouse", "wh_main")
        assert "[31m" in done.stderr or "layout.toml" in done.stderr, done
        assert "\x1b" not in done.stderr


@pytest.mark.parametrize("name", ["=1+1", "+1", "@SUM(A1)", "-1"])
def test_a_report_has_no_formulas(name: str, commands: Commands, tmp_path: Path) -> None:
    path, report = tmp_path / "counts.csv", tmp_path / "report.csv"
    path.write_text(f"sku,warehouse_id,{name}\nNSC-BOOK-1,wh_main,=1+1\n", encoding="utf-8")
    commands.import_file(path, f"--column=quantity={name}", "--report", str(report))
    with report.open(encoding="utf-8", newline="") as file:
        [cells] = csv.DictReader(file)
    assert (cells["column"], cells["value"]) == (f"'{name}", "'=1+1'")


def test_a_user_writes_a_layout(commands: Commands, tmp_path: Path) -> None:
    path, layout = tmp_path / "stock.csv", tmp_path / "layout.toml"
    path.write_text("Code;Free;Count Main Warehouse\n#NSC-BOOK-1#;x;3,0\n##;;1\n", encoding="utf-8")
    layout.write_text(
        '["Till"]\nheader = ["Code"]\ndecimal = ","\nunused = ["Free"]\n'
        "skip_rows_without_sku = true\nextract = { sku = '#(.*)#' }\n"
        'columns = { sku = "Code", quantity = "Count {warehouse}" }\n',
        encoding="utf-8",
    )
    done = commands.import_file(path, "--layout", str(layout))
    assert on_hand(commands) == BOOK, done
    assert "layout Till" in done.stderr
    valid = '["A"]\nheader = ["a"]\ncolumns = { sku = "a" }\n'
    bad = ("", "[", '["A"]\n', f"{valid}colour = 1", valid.replace("sku", "colour"))
    for text in (*bad, valid + valid.replace("A", "B"), f"{valid}extract = {{ sku = '#' }}"):
        layout.write_text(text, encoding="utf-8")
        done = commands.import_file(path, "--layout", str(layout))
        assert (done.status, "layout.toml" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--column", "sku"], "--column sku lacks =NAME"),
        (["--warehouse", "nowhere"], "'nowhere' is neither the id nor the name of a warehouse"),
        (["--warehouse", "x=nowhere"], "'nowhere' is neither the id nor the name of a warehouse"),
        (["--warehouse", "wh_main", "--warehouse", "wh_shop"], "'wh_shop' is a second warehouse"),
    ],
)
def test_a_wrong_option_is_named(
    options: list[str], said: str, commands: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(COUNTS, encoding="utf-8")
    done = commands.import_file(path, *options)
    assert done.status == 1
    assert said in done.stderr
