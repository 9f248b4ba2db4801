"""REST -> GraphQL: binds the parts of a request to variables.

Only shapes are checked here; the schema and the operation check values.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers

from app.errors import MalformedRequest, invalid_fields

# Pairs of a field and what is wrong with its value.
Problems = list[tuple[str, str]]
# Converts a value to a variable, or adds a problem.
Reader = Callable[[Any, str, Problems], object]
Readers = Mapping[str, Reader]
# From lower-case header names to (variable, reader).
HeaderReaders = Mapping[str, tuple[str, Reader]]
# From REST names of an object's fields to (GraphQL name, reader).
FieldReaders = Mapping[str, tuple[str, Reader]]

MAX_PARAMETERS: Final = 50
BOOLEANS: Final = {"true": True, "false": False}
# The service has no weak tags, and its strong tags are versions: other tags match no record.
_STRONG_TAG: Final = re.compile(r'(?<!W/)"([0-9]{1,18})"')
_INTEGER: Final = re.compile(r"-?[0-9]{1,9}")


def unchanged(value: object, _name: str, _problems: Problems) -> object:
    """Pass a value on to the schema."""
    return value


def integer(value: str, name: str, problems: Problems) -> object:
    """Read an integer from a query parameter."""
    if _INTEGER.fullmatch(value):
        return int(value)
    problems.append((name, "must be an integer, such as 50"))
    return None


def boolean(value: str, name: str, problems: Problems) -> object:
    """Read a boolean from a query parameter."""
    if value in BOOLEANS:
        return BOOLEANS[value]
    problems.append((name, "must be true or false"))
    return None


def string(value: object, name: str, problems: Problems) -> object:
    """Check that a value is a string: the type ID of GraphQL would accept a number."""
    if value is not None and not isinstance(value, str):
        problems.append((name, "must be a string"))
    return value


def sku_versions(value: object, _name: str, _problems: Problems) -> object:
    """Read the versions from the entity tags of If-Match, or None for any version."""
    if value == "*":
        return None
    return [int(tag) for tag in _STRONG_TAG.findall(str(value))]


def one_of(names: Mapping[str, str]) -> Reader:
    """Make a reader of an enum from its REST names and GraphQL names."""

    def read(value: object, name: str, problems: Problems) -> object:
        if isinstance(value, str) and value in names:
            return names[value]
        problems.append((name, f"must be one of {', '.join(names)}"))
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


def stock_updates(fields: FieldReaders) -> Reader:
    """Make a reader of a list of updates, whose `quantity` or `delta` is an object in GraphQL."""
    read_list = list_of(fields)

    def read(value: object, name: str, problems: Problems) -> object:
        items: Any = read_list(value, name, problems)
        for item in items or ():
            change = {key: item.pop(key) for key in ("quantity", "delta")}
            item["change"] = {key: number for key, number in change.items() if number is not None}
        return items

    return read


def bind_object(
    value: object, readers: Readers, problems: Problems, *, prefix: str = ""
) -> dict[str, object]:
    """Read the fields of a JSON object. An unknown field is a problem."""
    if not isinstance(value, dict):
        problems.append((prefix.rstrip(".") or "body", "must be an object"))
        return {}
    known = f"the known fields are {', '.join(readers)}" if readers else "no fields are known"
    problems += [
        (f"{prefix}{name}", f"is unknown; {known}") for name in value if name not in readers
    ]
    return {
        name: reader(value[name], f"{prefix}{name}", problems)
        for name, reader in readers.items()
        if name in value
    }


def bind_body(body: object, readers: Readers) -> dict[str, object]:
    """Bind a JSON body to variables.

    Raises:
        ValidationFailed: the body has a wrong shape.

    """
    problems: Problems = []
    variables = bind_object(body, readers, problems)
    _raise_if_any(problems)
    return variables


def bind_headers(headers: Headers, readers: HeaderReaders) -> dict[str, object]:
    """Bind request headers to variables. A repeated header is a list (RFC 9110)."""
    return {
        variable: reader(", ".join(headers.getlist(name)), name, [])
        for name, (variable, reader) in readers.items()
        if name in headers
    }


def bind_query(query_string: bytes, readers: Readers) -> dict[str, object]:
    """Bind query parameters to variables.

    Raises:
        MalformedRequest: the query string cannot be decoded.
        ValidationFailed: a parameter is unknown, repeated or of the wrong type.

    """
    if not query_string:
        return {}
    try:
        parameters = parse_qsl(
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
    problems: Problems = _repeated([name for name, _ in parameters])
    variables = bind_object(dict(parameters), readers, problems)
    _raise_if_any(problems)
    return variables


def _repeated(names: Sequence[str]) -> Problems:
    return [
        (name, "is repeated; send it once")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]


def _raise_if_any(problems: Problems) -> None:
    if problems:
        raise invalid_fields(problems)
