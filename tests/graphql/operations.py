"""Operations over HTTP, and the shape of their errors."""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from tests.service import Service

Json = dict[str, Any]
ERROR_KEYS: Final = ["message", "locations", "path", "extensions"]
FACTS: Final = ["code", "status", "details", "request_id", "replayed"]


def bulk_item(update: Mapping[str, Any]) -> Json:
    """Update of a bulk, from the fields of the input of setStock or adjustStock."""
    change = {name: update[name] for name in ("quantity", "delta") if name in update}
    others = {name: value for name, value in update.items() if name not in change}
    return {**others, "change": change}


async def send_operation(
    service: Service,
    query: str,
    variables: Mapping[str, object] | None = None,
    *,
    token: str | None = "write",
    accept: str = "application/json",
) -> httpx.Response:
    """Send an operation; the response is not checked."""
    return await service.rest(
        "POST",
        "/graphql",
        token=token,
        json={"query": query, "variables": variables},
        headers={"Accept": accept},
    )


def refusals(answer: Json) -> list[tuple[int, str]]:
    """Status and code of every error of a response; each must have the documented shape."""
    errors: list[Json] = answer["errors"]
    assert errors, answer
    for error in errors:
        assert list(error) == [key for key in ERROR_KEYS if key in error], error
        assert error["message"].strip(". "), error
        facts = error["extensions"]
        assert list(facts) == [key for key in FACTS if key in facts], error
        assert {"code", "status", "request_id"} <= facts.keys(), error
    return [(error["extensions"]["status"], error["extensions"]["code"]) for error in errors]


def refusal(answer: Json) -> tuple[int, str]:
    """Status and code of the only error of a response."""
    [only] = refusals(answer)
    return only


def refused_fields(answer: Json) -> list[str]:
    """Fields named by the only validation error of a response."""
    assert refusal(answer) == (422, "VALIDATION_ERROR"), answer
    details: list[Json] = answer["errors"][0]["extensions"]["details"]
    assert all(detail["message"] for detail in details), details
    return [detail["field"] for detail in details]


def failed_request(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a response without data."""
    body = response.json()
    assert list(body) == ["errors"], response.text
    status, code = refusal(body)
    assert body["errors"][0]["extensions"]["request_id"] == response.headers["x-request-id"]
    assert status == response.status_code, response.text
    return status, code


def without(answer: Any, *names: str) -> Any:
    """Return a response without the fields of some names."""
    if isinstance(answer, dict):
        return {key: without(it, *names) for key, it in answer.items() if key not in names}
    return [without(it, *names) for it in answer] if isinstance(answer, list) else answer


def objects_with_id(value: object) -> list[Json]:
    """List the objects of a response that have an id."""
    if isinstance(value, list):
        return [it for each in value for it in objects_with_id(each)]
    if isinstance(value, dict):
        below = [it for each in value.values() for it in objects_with_id(each)]
        return [value, *below] if "id" in value else below
    return []
