"""SQLite finds the rows of a write by primary key, independent of the size of the table."""

import pytest
from sqlalchemy.sql.dml import Update

from app.reads.similar_codes import select_similar
from app.writes.statements import write_levels, write_skus
from tests.engines import reader_of, writer_of
from tests.service import Service


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")
@pytest.mark.parametrize(
    ("statement", "search"),
    [
        (write_skus("sqlite", has_new=False), "SEARCH sku USING"),
        (write_levels("sqlite", has_new=False), "SEARCH stock_level USING"),
    ],
    ids=["skus", "levels"],
)
async def test_written_rows_are_found_by_primary_key(
    service: Service, statement: Update, search: str
) -> None:
    compiled = statement.compile(writer_of(service.database).sync_engine)
    parameters = {name: value or "[]" for name, value in compiled.params.items()}
    async with reader_of(service.database).connect() as connection:
        result = await connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {compiled}",
            tuple(parameters[name] for name in compiled.positiontup or ()),
        )
        steps = [row.detail for row in result]
    assert any(step.startswith(search) and "(tenant_id=? AND sku=?" in step for step in steps), (
        steps
    )
    assert any(step.startswith("MATERIALIZE") for step in steps), steps


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True, scope="session")
async def test_similar_codes_are_found_by_their_index(service: Service) -> None:
    compiled = select_similar("sqlite").compile(writer_of(service.database).sync_engine)
    parameters = {"tenant_id": "t", "codes": "[]"}
    async with reader_of(service.database).connect() as connection:
        result = await connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {compiled}",
            tuple(
                compiled.params[name] if compiled.params[name] is not None else parameters[name]
                for name in compiled.positiontup or ()
            ),
        )
        steps = [row.detail for row in result]
    search = "SEARCH sku USING COVERING INDEX sku_by_folded_code_index (tenant_id=? AND <expr>=?)"
    assert search in steps, steps
