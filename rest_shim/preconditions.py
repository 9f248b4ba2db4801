"""Conditional requests (RFC 9110): If-Match and If-None-Match.

The tag of a record has the version of the SKU, which If-Match of a write compares, and a digest of
the whole answer, which a read compares too.
"""

import re
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers

from app.errors import PreconditionFailed, invalid_field
from app.graphql.variable_checks import LONGEST_LIST

_TAG: Final = re.compile(r'(W/)?"([^"]*)"')
# The text of the tag of a record; other tags match no record.
_RECORD_TAG: Final = re.compile("([0-9]{1,18})(-[0-9a-f]{16})?")
NO_TAG: Final = "This route has no ETag, so that no tag can match. Leave If-Match out."
NO_CREATION: Final = (
    "If-None-Match of a write asks that something does not exist yet, and no route creates a SKU. "
    "Leave it out; to detect changes of other clients, send the ETag in If-Match."
)
WEAK: Final = (
    "If-Match has only a weak tag (W/), and compares strong ones. Send the ETag without W/, as the "
    "service sent it; a proxy may have added it."
)
UNQUOTED: Final = (
    "If-Match has no tag in double quotes. Send the ETag as the service sent it, with the quotes."
)


def matched_versions(header: str) -> list[int] | None:
    """Return the versions in the tags of If-Match of a write; None for any version.

    Raises:
        PreconditionFailed: the header has no strong tag.
        ValidationFailed: the header has too many tags.

    """
    if header.strip() == "*":
        return None
    tags = _strong_tags(header)
    if len(tags) > LONGEST_LIST:
        message = f"must have at most {LONGEST_LIST} tags, and has {len(tags)}"
        raise invalid_field("If-Match", message)
    if not tags:
        raise _failed("If-Match", WEAK if _TAG.search(header) else UNQUOTED)
    return [int(match[1]) for tag in tags if (match := _RECORD_TAG.fullmatch(tag))]


def check_headers(headers: Headers, *, is_read: bool, has_tag: bool) -> None:
    """Check the conditions that a route cannot meet.

    Raises:
        PreconditionFailed: If-Match on a route without a tag, or If-None-Match on a write.

    """
    if "if-match" in headers and not has_tag and _all(headers, "if-match") != "*":
        raise _failed("If-Match", NO_TAG)
    if "if-none-match" in headers and not is_read:
        raise _failed("If-None-Match", NO_CREATION)


def check_read(headers: Headers, etag: str | None) -> bool:
    """Check the conditions of a read, and return whether the client has the answer already.

    Raises:
        PreconditionFailed: If-Match has not the tag of the answer.

    """
    if etag is None:
        return False
    if "if-match" in headers:
        header = _all(headers, "if-match")
        if header != "*" and etag.strip('"') not in _strong_tags(header):
            raise _failed("If-Match", f"The record has changed: its ETag is {etag}.")
    if "if-none-match" not in headers:
        return False
    header = _all(headers, "if-none-match")
    return header == "*" or etag.strip('"') in [match[2] for match in _TAG.finditer(header)]


def _strong_tags(header: str) -> Sequence[str]:
    return [match[2] for match in _TAG.finditer(header) if not match[1]]


def _all(headers: Headers, name: str) -> str:
    """Return the value of a header; a repeated one is a list (RFC 9110)."""
    return ", ".join(headers.getlist(name)).strip()


def _failed(header: str, message: str) -> PreconditionFailed:
    return PreconditionFailed(message, details=[{"field": header, "message": message}])
