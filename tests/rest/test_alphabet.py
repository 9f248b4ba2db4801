"""Every character that a SKU code may contain, through everything that carries a code."""

import io
import json
import sys
from urllib.parse import quote, unquote

import pytest

from app.files import exports
from app.files.columns import ExportSubject, FileKind
from app.files.sources import FileFormat
from app.http.logs import configure_logs
from tests.alphabet import codes_of_the_alphabet
from tests.files.importing import imported, silent
from tests.rest.answers import answered, walk
from tests.service import Service, level, sku, warehouse

PATH = "/api/inventory"
# GraphQL nodes per document.
CHUNK = 40
# The first codes have all scripts with few characters. Of the others, which are ideographs and
# syllables, one in ten is enough for tests with a request per code.
SCRIPTS = 40


async def test_paths_tags_cursors_logs_and_bodies_carry_every_character(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = warehouse()
    codes = codes_of_the_alphabet()
    await service.load([main], [sku(code, level(main, 5)) for code in codes])

    listed, totals = await walk(service, PATH, limit=200)
    assert [record["sku"] for record in listed] == codes
    assert set(totals) == {len(codes)}

    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logs("info")
    some = listed[:SCRIPTS] + listed[SCRIPTS::10]
    for record in some:
        code = record["sku"]
        path = f"{PATH}/{quote(code, safe='')}"
        response = await service.rest("GET", path)
        assert answered(response) == {"data": record}
        tag = {"If-None-Match": response.headers["etag"]}
        assert (await service.rest("GET", path, headers=tag)).status_code == 304
    configure_logs("error")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    paths = [unquote(line["path"]) for line in lines if line["event"] == "request"]
    assert paths == [f"{PATH}/{record['sku']}" for record in some for _ in range(2)]

    for start in range(0, len(codes), 500):
        rows = [
            {"sku": code, "warehouse_id": main.id, "quantity": 7, "reason": "cycle_count"}
            for code in codes[start : start + 500]
        ]
        answer = answered(await service.rest("POST", f"{PATH}/bulk", json={"updates": rows}))
        assert [result["sku"] for result in answer["data"]] == codes[start : start + 500]


async def test_graphql_ids_carry_every_character(service: Service) -> None:
    main = warehouse()
    codes = codes_of_the_alphabet()
    await service.load([main], [sku(code, level(main, 5)) for code in codes])
    names = [f"n{number}" for number in range(CHUNK)]
    document = (
        f"query ({', '.join(f'${name}: ID!' for name in names)}) {{ "
        + " ".join(f"{name}: node(id: ${name}) {{ id }}" for name in names)
        + " }"
    )
    for start in range(0, len(codes), CHUNK // 2):
        ids = [
            id_
            for code in codes[start : start + CHUNK // 2]
            for id_ in (f"sku_{code}", f"level_{main.id}_{code}")
        ]
        ids += ids[:1] * (CHUNK - len(ids))
        data = await service.data(document, dict(zip(names, ids, strict=True)))
        assert [data[name]["id"] for name in names] == ids


@pytest.mark.parametrize("form", list(FileFormat))
async def test_files_carry_every_character(service: Service, form: FileFormat) -> None:
    main = warehouse()
    codes = codes_of_the_alphabet()
    await service.load([main], [sku(code, level(main, 5)) for code in codes])
    target = io.BytesIO()
    await exports.export(
        service.database,
        service.tenant_id,
        ExportSubject.STOCK,
        exports.ExportFilter(),
        form=form,
        target=target,
        progress=silent,
    )

    tally = await imported(
        service.database, service.tenant_id, target.getvalue(), FileKind.LEVELS, form
    )

    assert (tally.created, tally.updated, tally.unchanged) == (0, 0, len(codes))
