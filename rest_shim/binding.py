"""REST -> GraphQL: what a request says, as variables; its shape is checked, its rules are not."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers

from app.errors import MalformedRequest, invalid_fields

Problems = list[tuple[str, str]]
# Returns the value of a variable, or notes what is wrong with the one that was given.
Reader = Callable[[Any, str, Problems], object]
Readers = Mapping[str, Reader]
HeaderReaders = Mapping[str, tuple[str, Reader]]

MAX_PARAMETERS: Final = 50
BOOLEANS: Final = {"true": True, "false": False}
# A weak tag, or one that is no version of ours, matches nothing.
_STRONG_TAG: Final = re.compile(r'(?<!W/)"([0-9]{1,18})"')
_INTEGER: Final = re.compile(r"-?[0-9]{1,9}")


def as_given(value: object, _name: str, _problems: Problems) -> object:
    """Leave it to the schema."""
    return value


def integer(value: str, name: str, problems: Problems) -> object:
    """Read a whole number from a query parameter."""
    if _INTEGER.fullmatch(value):
        return int(value)
    problems.append((name, "must be a whole number"))
    return None


def boolean(value: str, name: str, problems: Problems) -> object:
    """Read true or false from a query parameter."""
    if value in BOOLEANS:
        return BOOLEANS[value]
    problems.append((name, "must be true or false"))
    return None


def string(value: object, name: str, problems: Problems) -> object:
    """Insist on a string: GraphQL's ID would take a number too."""
    if value is not None and not isinstance(value, str):
        problems.append((name, "must be a string"))
    return value


def versions(value: object, _name: str, _problems: Problems) -> object:
    """Read If-Match: the versions whose entity tags it lists; None for any."""
    if value == "*":
        return None
    return [int(tag) for tag in _STRONG_TAG.findall(str(value))]


def one_of(names: Mapping[str, str]) -> Reader:
    """Return a reader of an enum, from its REST names to GraphQL's."""

    def read(value: object, name: str, problems: Problems) -> object:
        if isinstance(value, str) and value in names:
            return names[value]
        problems.append((name, f"must be one of {', '.join(names)}"))
        return None

    return read


def list_of(fields: Mapping[str, tuple[str, Reader]]) -> Reader:
    """Return a reader of a list of objects, from REST's names to (GraphQL's, reader)."""
    readers = {name: reader for name, (_, reader) in fields.items()}

    def read(value: object, name: str, problems: Problems) -> object:
        if not isinstance(value, list):
            problems.append((name, "must be a list"))
            return None
        items = []
        for index, item in enumerate(value):
            bound = bind_object(item, readers, problems, prefix=f"{name}.{index}.")
            # What is missing is null to the schema, which then names it by its own path.
            items.append({inner: bound.get(outer) for outer, (inner, _) in fields.items()})
        return items

    return read


def bind_object(
    given: object, readers: Readers, problems: Problems, *, prefix: str = ""
) -> dict[str, object]:
    """Return the fields of a JSON object; those that nobody knows are problems."""
    if not isinstance(given, dict):
        problems.append((prefix.rstrip(".") or "body", "must be an object"))
        return {}
    known = ", ".join(readers) or "none"
    problems += [
        (f"{prefix}{name}", f"is not known here; known: {known}")
        for name in given
        if name not in readers
    ]
    return {
        name: reader(given[name], f"{prefix}{name}", problems)
        for name, reader in readers.items()
        if name in given
    }


def bind_body(body: object, readers: Readers) -> dict[str, object]:
    """Return the variables that a JSON body means.

    Raises:
        ValidationFailed: its shape is wrong.

    """
    problems: Problems = []
    variables = bind_object(body, readers, problems)
    return _unless(problems, variables)


def bind_headers(headers: Headers, reads: HeaderReaders) -> dict[str, object]:
    """Return the variables that request headers mean; one that is repeated is a list (RFC 9110)."""
    return {
        variable: reader(", ".join(headers.getlist(name)), name, [])
        for name, (variable, reader) in reads.items()
        if name in headers
    }


def bind_query(query_string: bytes, readers: Readers) -> dict[str, object]:
    """Return the variables that query parameters mean.

    Raises:
        MalformedRequest: they cannot be decoded.
        ValidationFailed: one is not known, given twice or of the wrong type.

    """
    if not query_string:
        return {}
    try:
        given = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError as error:
        message = (
            f"The query string is not percent-encoded UTF-8 of up to {MAX_PARAMETERS} parameters."
        )
        raise MalformedRequest(message) from error
    problems: Problems = _twice([name for name, _ in given])
    variables = bind_object(dict(given), readers, problems)
    return _unless(problems, variables)


def _twice(names: Sequence[str]) -> Problems:
    return [(name, "must be given once") for name in dict.fromkeys(names) if names.count(name) > 1]


def _unless(problems: Problems, variables: dict[str, object]) -> dict[str, object]:
    if problems:
        raise invalid_fields(problems)
    return variables
