"""The table of scopes, and what each scope can reach."""

import pytest

from app.domain.caller import Scope
from app.graphql.schema.scopes import SCOPES
from tests.graphql.test_schema import OBJECTS


@pytest.mark.parametrize("root", ["Query", "Mutation", "Subscription"])
def test_every_root_field_and_nothing_else_has_a_scope(root: str) -> None:
    introspection = {"__schema", "__type", "__typename"} if root == "Query" else {"__typename"}

    assert set(SCOPES[root]) == set(OBJECTS[root].fields) | introspection
    assert set(SCOPES) == {"Query", "Mutation", "Subscription"}


def test_queries_require_read_and_mutations_a_higher_scope() -> None:
    lower = {name for name, scope in SCOPES["Query"].items() if scope is Scope.AVAILABILITY}
    assert lower == {"__typename", "availability", "availabilities"}
    queries = {name: scope for name, scope in SCOPES["Query"].items() if "webhook" not in name}
    assert {scope for name, scope in queries.items() if name not in lower} == {Scope.READ}
    webhooks = {scope for name, scope in SCOPES["Query"].items() if "webhook" in name}
    assert webhooks == {Scope.ADMIN}
    streams = {**SCOPES["Subscription"]}
    assert streams.pop("availabilityChanged") is Scope.AVAILABILITY
    assert set(streams.values()) == {Scope.READ}
    writes = {scope for name, scope in SCOPES["Mutation"].items() if name != "__typename"}
    assert Scope.READ not in writes
    assert SCOPES["Mutation"]["setStock"] == SCOPES["Mutation"]["bulkSetStock"] == Scope.WRITE
