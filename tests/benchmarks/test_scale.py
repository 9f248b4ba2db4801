"""The queries of the scale curve return the data of the database."""

from pathlib import Path

from benchmarks.contenders import REST
from benchmarks.databases import empty_sqlite, filled
from benchmarks.pages import Target
from benchmarks.questions import questions, size_of
from benchmarks.servers import serving


def test_every_query_of_the_scale_curve_matches_the_database(tmp_path: Path) -> None:
    size = size_of(1_000)
    url = filled(empty_sqlite(tmp_path, "scale"), size, lambda _: None)
    with serving(REST, url, workers=1) as (port, _):
        # Each query compares pages and totals with the database, and raises if they differ.
        loads = {name: question(Target(port, url), size) for name, question in questions().items()}

    assert [name for name, load in loads.items() if not load.expected] == []
