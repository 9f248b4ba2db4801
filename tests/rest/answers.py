"""Shapes of REST responses: errors, successes and paged lists."""

import json
from typing import Any

import httpx

from tests.service import Service

Json = dict[str, Any]
ERROR_KEYS = ("code", "message", "details", "request_id")


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error response; its body must have the documented shape."""
    assert response.headers["content-type"] == "application/json", response.text
    body = response.json()
    assert list(body) == ["error"], response.text
    error = body["error"]
    assert list(error) == [key for key in ERROR_KEYS if key in error], response.text
    assert {"code", "message", "request_id"} <= error.keys(), response.text
    assert error["message"].strip(". "), response.text
    assert error["request_id"] == response.headers["x-request-id"]
    return response.status_code, error["code"]


def refused_fields(response: httpx.Response) -> list[str]:
    """Fields named by a 422 response, in the order of its details."""
    assert refusal(response) == (422, "VALIDATION_ERROR"), response.text
    details = response.json()["error"]["details"]
    assert all(list(detail) == ["field", "message"] for detail in details), details
    return [detail["field"] for detail in details]


def answered(response: httpx.Response, status: int = 200) -> Any:
    """JSON of a response that must be a success."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def ordered(text: str) -> Any:
    """Return the parsed JSON that equals another value only if the keys have the same order."""
    return json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs))


async def walk(
    service: Service, path: str, *, limit: int, token: str = "write", **parameters: str
) -> tuple[list[Json], list[int]]:
    """All items of a list, page by page, and the total of each page."""
    items: list[Json] = []
    totals: list[int] = []
    query: dict[str, str | int] = {"limit": limit, **parameters}
    while True:
        page = answered(await service.rest("GET", path, token=token, params=query))
        assert list(page) == ["data", "meta"]
        assert list(page["meta"]) == ["total", "limit", "nextCursor"]
        assert page["meta"]["limit"] == limit
        items += page["data"]
        totals.append(page["meta"]["total"])
        cursor = page["meta"]["nextCursor"]
        if cursor is None:
            return items, totals
        assert cursor.startswith("cursor_")
        assert len(page["data"]) == limit
        query["cursor"] = cursor
