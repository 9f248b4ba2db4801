"""The benchmark rejects wrong responses and incomplete writes."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from benchmarks.contenders import GRAPHQL, REST
from benchmarks.data import Size
from benchmarks.databases import copy_sqlite, empty_sqlite, filled
from benchmarks.ledger import Ledger
from benchmarks.load import WrongAnswer
from benchmarks.servers import serving
from benchmarks.table import Running, compare, read_codes

SIZE = Size(500)
Change = Callable[[str], None]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the database that each test copies."""
    directory = tmp_path_factory.mktemp("benchmarks")
    filled(empty_sqlite(directory, "master"), SIZE, lambda _: None)
    return directory


@pytest.fixture
def change(directory: Path) -> Iterator[Change]:
    """Copy the database; a function that changes the copy without the service."""
    copy_sqlite(directory, source="master", name="copy")

    def execute(statement: str) -> None:
        with closing(sqlite3.connect(directory / "copy")) as connection:
            connection.execute("DROP TRIGGER adjustment_refuses_delete")
            connection.execute(statement)
            connection.commit()

    yield execute
    for file in directory.glob("copy*"):
        file.unlink()


@pytest.fixture
def ledger(directory: Path) -> Ledger:
    """Ledger of the copy."""
    return Ledger(f"sqlite+aiosqlite:///{directory / 'copy'}")


def test_wrong_response_for_any_sku_is_detected(
    directory: Path, change: Change, ledger: Ledger
) -> None:
    with ExitStack() as stack:
        master = Ledger(copy_sqlite(directory, source="master", name="other"))
        running = []
        for contender, each in ((GRAPHQL, master), (REST, ledger)):
            port, process = stack.enter_context(serving(contender, each.database_url, workers=1))
            running.append(Running(contender, port, process, each))

        compare(running, SIZE)
        change(f"UPDATE sku SET title = 'Another thing' WHERE sku = '{read_codes(SIZE)[-1]}'")

        with pytest.raises(WrongAnswer, match="SKUs: this service, REST"):
            compare(running, SIZE)


@pytest.mark.usefixtures("change")
def test_consistent_ledger_passes_the_audit(ledger: Ledger) -> None:
    ledger.audit()

    assert ledger.length() == SIZE.adjustments


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "DELETE FROM adjustment WHERE sku = 'SKU-10000007'",
            "2 levels without their last adjustment",
        ),
        (
            "UPDATE stock_level SET on_hand = on_hand + 1 WHERE sku = 'SKU-10000007'",
            "2 levels without their last adjustment",
        ),
        (
            "INSERT INTO adjustment (tenant_id, position, id, sku, warehouse_id, sequence,"
            " before_quantity, after_quantity, delta, reason, created_by, created_at, hash)"
            " SELECT tenant_id, 999999, 'adj_x', sku, warehouse_id, sequence + 1, before_quantity,"
            " after_quantity, delta, reason, created_by, created_at, hash"
            " FROM adjustment WHERE sku = 'SKU-10000007' LIMIT 1",
            "-1 adjustments too many or too few",
        ),
        (
            "UPDATE stock_level SET status = 'out_of_stock' WHERE status <> 'out_of_stock'",
            "levels of a wrong status",
        ),
        ("UPDATE sku SET status = 'low' WHERE status = 'normal'", "SKUs of a wrong status"),
    ],
)
def test_incomplete_write_is_detected(
    change: Change, ledger: Ledger, statement: str, named: str
) -> None:
    change(statement)

    with pytest.raises(WrongAnswer, match=named):
        ledger.audit()
