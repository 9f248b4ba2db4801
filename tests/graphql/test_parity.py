"""REST and GraphQL: the same outcome, code, status and fields for every case."""

import re
from dataclasses import replace

import pytest

from app.errors import Unavailable
from app.files.seeding import LoadedLevel
from app.graphql.schema import query
from tests.graphql.operations import Json, refusal
from tests.graphql.parity_cases import (
    CASES,
    ELSEWHERE,
    INSUFFICIENT,
    MAIN,
    NAMES,
    READS,
    RECORDS,
    UNAUTHENTICATED,
    WRITES,
    Case,
)
from tests.graphql.test_schema import ERROR_CODES
from tests.service import Service, counted, level, sku


@pytest.fixture
async def stocked(service: Service) -> Service:
    histories = [counted(9), counted(5, "2026-02-01T00:00:00Z", reason="loss")]
    levels = [
        LoadedLevel(warehouse_id=MAIN, history=histories),
        level(RECORDS[1], 5),
        level(RECORDS[3], 5),
    ]
    await service.load(RECORDS, [sku("A", *levels), sku("B")])
    return service


async def rest_outcome(service: Service, case: Case) -> tuple[tuple[int, str] | None, list[str]]:
    """Return the error of REST, if any, and the fields that it names."""
    response = await service.rest(case.method, case.path, token=case.credential, **case.rest)
    if response.status_code in (200, 201):
        return None, []
    error = response.json()["error"]
    return (response.status_code, error["code"]), named_fields(error)


async def graphql_outcome(service: Service, case: Case) -> tuple[tuple[int, str] | None, list[str]]:
    """Return the error of GraphQL, if any, and the fields that it names."""
    headers = {"Accept": "application/graphql-response+json", **case.graphql.get("headers", {})}
    response = await service.rest(
        case.graphql_method,
        "/graphql",
        token=case.credential,
        **{**case.graphql, "headers": headers},
    )
    answer = response.json()
    if "errors" not in answer:
        assert response.status_code == 200
        return None, []
    outcome = refusal(answer)
    assert response.status_code == (200 if "data" in answer else outcome[0])
    return outcome, named_fields(answer["errors"][0]["extensions"])


def named_fields(facts: Json) -> list[str]:
    """Return the last name of each field of the details, in the spelling of REST."""
    names = [
        str(each["field"]).rsplit(".", 1)[-1]
        for each in facts.get("details", ())
        if "field" in each
    ]
    return sorted(
        NAMES.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) for name in names
    )


async def assert_same(service: Service, case: Case) -> None:
    through_rest = await rest_outcome(service, case)
    through_graphql = await graphql_outcome(service, case)
    assert through_rest[0] == case.expected
    assert through_graphql[0] == case.expected
    if case.fields != ["any"]:
        assert through_rest[1] == sorted(case.fields)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_both_faces_give_the_same_outcome(stocked: Service, case: Case) -> None:
    await assert_same(stocked, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_both_faces_name_the_same_fields(stocked: Service, case: Case) -> None:
    through_rest = await rest_outcome(stocked, case)
    through_graphql = await graphql_outcome(stocked, case)

    assert through_graphql[1] == through_rest[1]


@pytest.mark.parametrize("case", [*READS, *WRITES], ids=lambda case: case.name)
async def test_both_faces_check_credential_and_scope_first(stocked: Service, case: Case) -> None:
    for token in (None, "bad", f"inv_{stocked.tenant_id}-bad"):
        await assert_same(
            stocked, replace(case, credential=token, expected=UNAUTHENTICATED, fields=[])
        )
    if case in WRITES:
        await assert_same(
            stocked, replace(case, credential="read", expected=INSUFFICIENT, fields=[])
        )


@pytest.mark.parametrize("token", ["read", "write", "admin"])
@pytest.mark.parametrize("case", READS, ids=lambda case: case.name)
async def test_both_faces_let_every_scope_read(stocked: Service, case: Case, token: str) -> None:
    await assert_same(stocked, replace(case, credential=token))


@pytest.mark.parametrize("token", ["write", "admin"])
@pytest.mark.parametrize(
    "case", [case for case in WRITES if case.expected is None], ids=lambda case: case.name
)
async def test_both_faces_let_write_and_admin_write(
    stocked: Service, case: Case, token: str
) -> None:
    await assert_same(stocked, replace(case, credential=token))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Unavailable("The database cannot answer now; try again."), (503, "UNAVAILABLE")),
        (RuntimeError("secret dsn"), (500, "INTERNAL")),
    ],
)
async def test_both_faces_return_the_same_error_for_a_fault(
    stocked: Service, monkeypatch: pytest.MonkeyPatch, fault: Exception, expected: tuple[int, str]
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(query, "list_warehouses", fail)
    case = next(case for case in CASES if case.name == "warehouses")
    await assert_same(stocked, replace(case, expected=expected))


def test_cases_cover_every_error_code() -> None:
    reached = {case.expected[1] for case in CASES if case.expected}
    elsewhere = {"UNAUTHENTICATED", "INSUFFICIENT_SCOPE", "UNAVAILABLE", "INTERNAL"}

    assert ERROR_CODES - reached - elsewhere == ELSEWHERE
