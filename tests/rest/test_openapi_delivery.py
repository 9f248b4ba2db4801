"""The OpenAPI documents as clients and the reference page load them."""

from typing import Any

import pytest

from app.errors import ERRORS
from rest_shim.openapi import openapi
from tests.service import Service


@pytest.mark.parametrize("path", ["/api/openapi.json", "/api/openapi-3.0.json"])
async def test_document_is_compressed_for_clients_that_accept_it(
    service: Service, path: str
) -> None:
    plain, compressed = [
        await service.rest("GET", path, token=None, headers={"Accept-Encoding": encoding})
        for encoding in ("identity", "br, gzip;q=0.5")
    ]

    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.json() == plain.json()
    assert int(compressed.headers["content-length"]) < 0.2 * int(plain.headers["content-length"])
    assert plain.headers["vary"] == compressed.headers["vary"] == "Accept-Encoding"


def test_references_are_local_and_not_recursive() -> None:
    document = openapi()

    def follow(node: Any, way: tuple[str, ...] = ()) -> int:
        """Follow all references from a node, as the reference page does, and count them."""
        if isinstance(node, list):
            return sum(follow(item, way) for item in node)
        if not isinstance(node, dict):
            return 0
        if "$ref" not in node:
            return sum(follow(item, way) for item in node.values())
        reference = node["$ref"]
        assert reference not in way
        target: Any = document
        root, *names = reference.split("/")
        assert root == "#"
        for name in names:
            target = target[name]
        return 1 + follow(target, (*way, reference))

    assert follow(document["paths"]) > 100


def test_document_lists_every_error_code() -> None:
    schema = openapi()["components"]["schemas"]["ErrorCode"]

    assert set(schema["enum"]) == {error.code for error in ERRORS}
    for error in ERRORS:
        assert f"`{error.code}`" in schema["description"]
        assert f"{error.status}: {error.__doc__}" in schema["description"]
