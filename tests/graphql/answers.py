"""What answers look like: errors, and lists walked page by page."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.graphql.operations import Json, refusal, refusals
from tests.service import Service

__all__ = ["Json", "details_of", "errors_of", "page_of", "refused", "walk"]

PAGE_INFO: Final = "hasNextPage hasPreviousPage startCursor endCursor"


def page_of(fields: str) -> str:
    """Return the selection of everything that a connection has, with fields of its nodes."""
    return (
        f"edges {{ cursor node {{ {fields} }} }} nodes {{ {fields} }} "
        f"pageInfo {{ {PAGE_INFO} }} totalCount"
    )


def errors_of(answer: Json) -> list[Json]:
    """Return the errors of an answer that must have some, each of the documented shape."""
    refusals(answer)
    errors: list[Json] = answer["errors"]
    return errors


def details_of(answer: Json) -> list[Json]:
    """Return the details of the one error of an answer."""
    [error] = errors_of(answer)
    details: list[Json] = error["extensions"]["details"]
    return details


async def refused(
    service: Service, query: str, variables: Mapping[str, object] | None = None
) -> tuple[int, str]:
    """Return status and code of the one error that an operation must answer."""
    return refusal(await service.graphql(query, variables))


async def walk(
    service: Service,
    query: str,
    path: Sequence[str],
    variables: Mapping[str, object] | None = None,
    *,
    first: int,
) -> list[Json]:
    """Return all nodes of a list by its cursors, each page consistent in itself."""
    nodes: list[Json] = []
    totals: set[int] = set()
    after: str | None = None
    while True:
        parameters = {**(variables or {}), "first": first, "after": after}
        page: Any = await service.data(query, parameters)
        for step in path:
            page = page[step]
        found, info = page["nodes"], page["pageInfo"]
        marks = [edge["cursor"] for edge in page["edges"]]
        assert [edge["node"] for edge in page["edges"]] == found
        assert len(set(marks)) == len(marks)
        assert all(mark.startswith("cursor_") for mark in marks)
        assert info["startCursor"] == (marks[0] if marks else None)
        assert info["endCursor"] == (marks[-1] if marks else None)
        assert info["hasPreviousPage"] is (after is not None)
        nodes += found
        totals.add(page["totalCount"])
        if not info["hasNextPage"]:
            assert totals == {len(nodes)}
            return nodes
        assert len(found) == first
        after = info["endCursor"]
