"""REST -> GraphQL: binds the parts of a request to variables.

Only shapes are checked here; the schema and the operation check values.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers

from app.domain.periods import parse_instant
from app.errors import MalformedRequest, invalid_fields
from app.graphql.schema.filters import EMPTY_TEXT
from app.graphql.schema.scalars import parse_quantity
from rest_shim.names import UNKNOWN_FIELD, rest_name
from rest_shim.preconditions import matched_versions

# Pairs of a field and the problem of its value.
Problems = list[tuple[str, str]]
# Converts a value to a variable, or adds a problem.
Reader = Callable[[Any, str, Problems], object]
Readers = Mapping[str, Reader]
# From lower-case header names to (variable, reader).
HeaderReaders = Mapping[str, tuple[str, Reader]]
# From REST names of an object's fields to (GraphQL name, reader).
FieldReaders = Mapping[str, tuple[str, Reader]]

MAX_PARAMETERS: Final = 50
# The most values of a parameter with several ones.
MAX_LISTED: Final = 50
NEVER: Final = "never"
BOOLEANS: Final = {"true": True, "false": False}
_INTEGER: Final = re.compile(r"-?[0-9]{1,9}")
_POSITION: Final = re.compile(r"[0-9]{1,18}")
# The end of a timestamp whose offset began with a plus sign.
_DECODED_PLUS: Final = re.compile(r"^[0-9T:.-]{19,40} [0-9]{2}:[0-9]{2}$", re.IGNORECASE)
ROW_PROBLEMS: Final = "row_problems"
# The most problems of a row that an error lists: of all known fields, and of some unknown ones.
MAX_ROW_PROBLEMS: Final = 20


def unchanged(value: object, _name: str, _problems: Problems) -> object:
    """Pass a value on to the schema."""
    return value


def integer(value: str, name: str, problems: Problems) -> object:
    """Read an integer from a query parameter."""
    if _INTEGER.fullmatch(value):
        return int(value)
    problems.append((name, "must be an integer, such as 50"))
    return None


def position(value: str, name: str, problems: Problems) -> object:
    """Read a position of the feed from a query parameter."""
    if _POSITION.fullmatch(value):
        return int(value)
    problems.append((name, "must be a whole number of at most 18 digits, such as 0"))
    return None


def instant(value: str, name: str, problems: Problems) -> object:
    """Pass a date or a timestamp on to the schema, unless its `+` was decoded as a space."""
    if _DECODED_PLUS.search(value):
        encoded = value.replace(" ", "%2B")
        problems.append((name, f"has a + that means a space in a query; send it as {encoded}"))
        return None
    return value


def condition(value: str, name: str, problems: Problems) -> object:
    """Pass the text of a condition on, unless it is empty."""
    if not value:
        problems.append((name, EMPTY_TEXT))
    return value


def namespaced_id(value: str, name: str, problems: Problems) -> object:
    """Read an external id: its namespace, a colon and its value."""
    namespace, colon, id_ = value.partition(":")
    if colon:
        return {"namespace": namespace, "value": id_}
    problems.append((name, "must be a namespace, a colon and a value, such as shopify:1001"))
    return None


def boolean(value: str, name: str, problems: Problems) -> object:
    """Read a boolean from a query parameter."""
    if value in BOOLEANS:
        return BOOLEANS[value]
    problems.append((name, "must be true or false"))
    return None


def string(value: object, name: str, problems: Problems) -> object:
    """Check that a value is a string: the type ID of GraphQL would accept a number."""
    if isinstance(value, str):
        return value
    problems.append((name, "must be a string"))
    return None


def seconds_or_never(value: object, name: str, problems: Problems) -> object:
    """Read a number of seconds, which the schema checks, or `never`, which it knows as null."""
    if isinstance(value, str) and value != NEVER:
        problems.append((name, f"must be a number of seconds, or {NEVER!r}"))
    return None if isinstance(value, str) else value


def strings(value: object, name: str, problems: Problems) -> object:
    """Check that a value is a list of strings."""
    if isinstance(value, list):
        return [string(each, f"{name}.{index}", problems) for index, each in enumerate(value)]
    problems.append((name, "must be a list of strings"))
    return None


def whole_number(value: object, name: str, problems: Problems) -> object:
    """Check that a value is a whole number."""
    try:
        return parse_quantity(value)
    except ValueError as error:
        problems.append((name, str(error)))
        return None


def timestamp(value: object, name: str, problems: Problems) -> object:
    """Check that a value is an RFC 3339 timestamp."""
    try:
        parse_instant(value)
    except ValueError as error:
        problems.append((name, str(error)))
        return None
    return value


def sku_versions(value: object, _name: str, _problems: Problems) -> object:
    """Read the versions from the entity tags of If-Match, or None for any version."""
    return matched_versions(str(value))


def one_of(names: Mapping[str, str]) -> Reader:
    """Make a reader of an enum from its REST names and GraphQL names."""

    def read(value: object, name: str, problems: Problems) -> object:
        if isinstance(value, str) and value in names:
            return names[value]
        problems.append((name, f"must be one of {', '.join(names)}"))
        return None

    return read


def some_of(names: Mapping[str, str]) -> Reader:
    """Make a reader of some values of an enum, separated by commas."""
    read_one = one_of(names)

    def read(value: str, name: str, problems: Problems) -> object:
        values = value.split(",", MAX_LISTED)
        return [read_one(each, f"{name}.{n}", problems) for n, each in enumerate(values)]

    return read


def one_in_list(value: str, name: str, problems: Problems) -> object:
    """Read a condition that is a list of one value."""
    return [condition(value, name, problems)]


def all_in_list(values: Sequence[str], name: str, problems: Problems) -> object:
    """Read a condition that is the list of the values of a repeated query parameter."""
    return [condition(value, name, problems) for value in values]


def not_with(other: str) -> Reader:
    """Make a reader that refuses a parameter beside another one."""

    def read(_value: object, name: str, problems: Problems) -> object:
        problems.append((name, f"cannot be combined with {other}"))
        return None

    return read


def list_of(fields: FieldReaders) -> Reader:
    """Make a reader of a list of objects."""
    readers = {name: reader for name, (_, reader) in fields.items()}

    def read(value: object, name: str, problems: Problems) -> object:
        if not isinstance(value, list):
            problems.append((name, "must be a list of objects"))
            return None
        items = []
        for index, item in enumerate(value):
            values = bind_object(item, readers, problems, prefix=f"{name}.{index}.")
            # A missing field becomes null, so that the schema reports it with its full path.
            items.append({graphql: values.get(rest) for rest, (graphql, _) in fields.items()})
        return items

    return read


@dataclass(frozen=True, slots=True)
class BoundRows:
    """Objects of a list that may fail alone, and the problems of their fields by index."""

    items: list[dict[str, object]]
    problems: dict[int, Problems]


def updates_of(fields: FieldReaders, required: Collection[str]) -> Reader:
    """Make a reader of the updates of a bulk, which may fail alone.

    The schema must take an update at fault. So a faulty value becomes null, the empty text if it is
    `required`, or a delta of 0.
    """
    readers = {name: reader for name, (_, reader) in fields.items()}

    def read(value: object, name: str, problems: Problems) -> object:
        if not isinstance(value, list):
            problems.append((name, "must be a list of objects"))
            return None
        rows = BoundRows([], {})
        for index, item in enumerate(value):
            own: Problems = []
            values: dict[str, object] = {}
            if isinstance(item, dict):
                own += [(field, "is required") for field in required if item.get(field) is None]
                own += _change_problems(item)
                values = bind_object(item, readers, own)
            else:
                own.append(("", "must be an object"))
            values |= {field: "" for field in required if values.get(field) is None}
            bound = {graphql: values.get(rest) for rest, (graphql, _) in fields.items()}
            change = _change_of(bound.pop("quantity"), bound.pop("delta"))
            rows.items.append({**bound, "change": change})
            if own:
                rows.problems[index] = [
                    (_operation_name(field, fields), message)
                    for field, message in own[:MAX_ROW_PROBLEMS]
                ]
        return rows

    return read


def _operation_name(field: str, fields: FieldReaders) -> str:
    """GraphQL name of a field, as in problems that the operation reports; empty for the row."""
    if field in fields:
        return fields[field][0]
    return f"{UNKNOWN_FIELD}{field}" if field else ""


def _change_problems(item: Mapping[str, object]) -> Problems:
    """Problem of an update that does not have exactly one of quantity and delta."""
    has_quantity, has_delta = (item.get(name) is not None for name in ("quantity", "delta"))
    if has_quantity != has_delta:
        return []
    if has_quantity:
        return [("quantity", "must not be given together with a delta")]
    return [("quantity", "is required, unless there is a delta")]


def _change_of(quantity: object, delta: object) -> dict[str, object]:
    """Change of an update. If both are given, the schema gets the delta."""
    if quantity is not None and delta is None:
        return {"quantity": quantity}
    return {"delta": 0 if delta is None else delta}


def bind_object(
    value: object, readers: Readers, problems: Problems, *, prefix: str = ""
) -> dict[str, object]:
    """Read the fields of a JSON object. Null is as if left out. An unknown field is a problem."""
    if not isinstance(value, dict):
        problems.append((prefix.rstrip(".") or "body", "must be an object"))
        return {}
    values = {
        name: reader(value[name], f"{prefix}{name}", problems)
        for name, reader in readers.items()
        if value.get(name) is not None
    }
    known = f"the known fields are {', '.join(readers)}" if readers else "no fields are known"
    problems += [
        (f"{prefix}{name}", f"is unknown; {known}") for name in value if name not in readers
    ]
    return values


def bind_body(body: object, readers: Readers) -> dict[str, object]:
    """Bind a JSON body to variables.

    Problems of rows are the value of ROW_PROBLEMS, which no operation declares as a variable.

    Raises:
        ValidationFailed: the body has a wrong shape.

    """
    problems: Problems = []
    variables = bind_object(body, readers, problems)
    for name, rows in [*variables.items()]:
        if isinstance(rows, BoundRows):
            variables |= {name: rows.items, ROW_PROBLEMS: rows.problems}
            if problems:
                problems += [
                    (f"{name}.{index}.{rest_name(field)}".rstrip("."), message)
                    for index, own in rows.problems.items()
                    for field, message in own
                ]
    _raise_if_any(problems)
    return variables


def bind_headers(headers: Headers, readers: HeaderReaders) -> dict[str, object]:
    """Bind request headers to variables. A repeated header is a list (RFC 9110)."""
    return {
        variable: reader(", ".join(headers.getlist(name)), name, [])
        for name, (variable, reader) in readers.items()
        if name in headers
    }


def query_parameters(query_string: bytes) -> list[tuple[str, str]]:
    """Parse a query string to pairs of a name and a value.

    Raises:
        MalformedRequest: the query string cannot be decoded.

    """
    if not query_string:
        return []
    try:
        return parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError as error:
        message = (
            "The query string cannot be decoded. Percent-encode it as UTF-8, and send at most "
            f"{MAX_PARAMETERS} parameters."
        )
        raise MalformedRequest(message) from error


def bind_query(parameters: Sequence[tuple[str, str]], readers: Readers) -> dict[str, object]:
    """Bind query parameters to variables.

    Raises:
        ValidationFailed: a parameter is unknown, of the wrong type, or repeated although it is not
            a list.

    """
    lists: dict[str, list[str]] = {name: [] for name, _ in parameters if _is_list(readers, name)}
    for name, value in parameters:
        if name in lists:
            lists[name].append(value)
    problems: Problems = _repeated([name for name, _ in parameters if name not in lists])
    variables = bind_object({**dict(parameters), **lists}, readers, problems)
    _raise_if_any(problems)
    return variables


def _is_list(readers: Readers, name: str) -> bool:
    return readers.get(name) is all_in_list


def _repeated(names: Sequence[str]) -> Problems:
    return [
        (name, "is repeated; send it once")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]


def _raise_if_any(problems: Problems) -> None:
    if problems:
        raise invalid_fields(problems)
