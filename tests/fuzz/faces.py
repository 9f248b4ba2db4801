"""Schemathesis over REST and GraphQL: cases generated from their descriptions."""

import random
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final
from urllib.parse import quote, unquote

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.graphql import nodes
from schemathesis.graphql.checks import GraphQLClientError, GraphQLServerError

from app.domain.validation import sku_problem
from app.graphql.schema.schema import schema as graphql_schema
from rest_shim.openapi import openapi
from tests.fuzz.target import CODES, WAREHOUSES, Target, check_answer

# Hypothesis keeps every generated case in memory, so a long run uses one seed per batch.
BATCH: Final = 2_000
TIMEOUT_SECONDS: Final = 60
EXISTING: Final = 0.8
CONFIG: Final = {
    "checks": {
        # Well-formed requests may still break a rule of stock, a condition or a key.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "304", "403", "404", "409", "410", "412", "422", "503"]
        },
        "negative_data_rejection": {
            "expected-statuses": [
                "400",
                "401",
                "403",
                "404",
                "405",
                "409",
                "412",
                "413",
                "415",
                "422",
                "503",
            ]
        },
    }
}
IDS: Final = [warehouse.id for warehouse in WAREHOUSES]
KNOWN: Final = {
    "sku": CODES,
    **dict.fromkeys(("warehouse_id", "from_warehouse_id", "to_warehouse_id"), IDS),
}
_FIT: Final[dict[str, Callable[[str], object]]] = {
    "sku": lambda code: sku_problem(code) is None,
    **dict.fromkeys(KNOWN.keys() - {"sku"}, re.compile("wh_[0-9A-Z]{26}").fullmatch),
}

for _name, _strategy in {
    "Quantity": st.integers(-(2**70), 2**70).map(nodes.Int),
    "DateTime": st.text().map(nodes.String),
    "DateOrDateTime": st.one_of(st.dates().map(str), st.text()).map(nodes.String),
    "TimeZone": st.one_of(st.timezone_keys(), st.text()).map(nodes.String),
}.items():
    schemathesis.graphql.scalar(_name, _strategy)


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Ignore findings that are documented behaviour.

    Schemathesis treats every error of a GraphQL field as a fault of the server; `check_answer`
    checks these errors. A bulk that continues on errors reports them per item with status 200.
    """
    if isinstance(failure, AcceptedNegativeData) and isinstance(case.body, dict):
        continues = case.body.get("on_error") == "continue"
        return not (continues and response.json()["meta"]["failed"])
    return not isinstance(failure, (GraphQLClientError, GraphQLServerError))


def fuzz_rest(target: Target, mode: GenerationMode, *, cases: int, start: int) -> None:
    """Send cases of the OpenAPI description; all checks apply."""
    config = SchemathesisConfig.from_dict(CONFIG)
    description = schemathesis.openapi.from_dict(_without_security(openapi()), config=config)
    strategy = st.builds(_with_known_names, description.as_strategy(mode), st.randoms())
    _fuzz(target, strategy, cases=cases, start=start)


def fuzz_graphql(target: Target, *, cases: int, start: int) -> None:
    """Send operations of the GraphQL schema; all checks apply."""
    config = SchemathesisConfig.from_dict(CONFIG)
    description = schemathesis.graphql.from_file(graphql_schema.as_str(), config=config)
    description.location = f"{target.address}/graphql"
    _fuzz(target, description.as_strategy(), cases=cases, start=start)


def _fuzz(target: Target, strategy: st.SearchStrategy[Any], *, cases: int, start: int) -> None:
    with requests.Session() as session:
        for number, batch in enumerate(range(0, cases, BATCH)):
            check = _checker(target, session)
            drawn = settings(
                max_examples=min(BATCH, cases - batch),
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=[*HealthCheck],
            )(seed(start + number)(given(strategy)(check)))
            drawn()


def _checker(target: Target, session: requests.Session) -> Callable[[Any], None]:
    def check(case: Any) -> None:
        response = case.call_and_validate(
            base_url=target.address,
            session=session,
            headers={"Authorization": target.authorization},
            timeout=TIMEOUT_SECONDS,
        )
        headers = {name: values[0] for name, values in response.headers.items()}
        check_answer(response.status_code, headers, response.content, request=case)

    return check


def _without_security(description: dict[str, Any]) -> dict[str, Any]:
    """Copy a description without credentials; otherwise they break half of the invalid cases.

    Schemathesis changes the tree that it gets, so nothing of the copy is shared.
    """
    copy = deepcopy(description)
    for operations in copy["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return copy


def _with_known_names(case: Any, dice: random.Random) -> Any:
    """Replace most valid names by existing ones; otherwise nearly every case would be a 404."""
    code = case.path_parameters.get("sku")
    if code and sku_problem(unquote(code)) is None and dice.random() < EXISTING:
        case.path_parameters["sku"] = quote(dice.choice(CODES), safe="")
    lines = [
        line
        for name in ("updates", "lines")
        if isinstance(case.body, dict) and isinstance(case.body.get(name), list)
        for line in case.body[name]
    ]
    for part in (case.query, case.body, *lines):
        for name, known in KNOWN.items():
            value = part.get(name) if isinstance(part, dict) else None
            if isinstance(value, str) and _FIT[name](value) and dice.random() < EXISTING:
                part[name] = dice.choice(known)
    return case
