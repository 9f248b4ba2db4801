"""External ids and metadata of SKUs and warehouses."""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from app.domain.validation import normalized_code, printed_text_problem
from app.errors import invalid_fields

# The namespace of Global Trade Item Numbers (EAN, UPC).
GTIN: Final = "gtin"
GTIN_LENGTHS: Final = (8, 12, 13, 14)
MAX_EXTERNAL_IDS: Final = 50
MAX_EXTERNAL_ID_LENGTH: Final = 255
MAX_METADATA_ENTRIES: Final = 50
MAX_METADATA_VALUE_LENGTH: Final = 500
# Characters of the external ids of an object, and of its metadata.
MAX_DETAILS_LENGTH: Final = 4_000
NAMESPACE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
METADATA_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGITS: Final = re.compile(r"[0-9]+")
# A field and the problem of its value.
FieldProblems = list[tuple[str, str]]


class ObjectKind(StrEnum):
    """The kind of an object that has external ids and metadata."""

    SKU = "sku"
    WAREHOUSE = "warehouse"


class ExternalIdRecord(Struct, frozen=True, array_like=True, order=True, gc=False):
    """An id of another system: unique among the SKUs, or the warehouses, of a tenant."""

    namespace: str
    value: str

    def __str__(self) -> str:
        """Return the text of the id, as in REST."""
        return f"{self.namespace}:{self.value}"


class MetadataRecord(Struct, frozen=True, array_like=True, order=True, gc=False):
    """A key of the metadata of an object, and its value."""

    key: str
    value: str


class ObjectDetails(Struct, frozen=True, array_like=True, gc=False):
    """The external ids of an object by namespace and value, and its metadata by key."""

    external_ids: tuple[ExternalIdRecord, ...] = ()
    metadata: tuple[MetadataRecord, ...] = ()


NO_DETAILS: Final = ObjectDetails()
# An object: its kind, and its SKU code or warehouse id.
ObjectKey = tuple[ObjectKind, str]


class DetailsChange(Struct, frozen=True, kw_only=True):
    """Changes of the details of an object; what they do not name stays."""

    # The new values of namespaces.
    external_ids: Mapping[str, Sequence[str]] = {}
    # The new values of keys; None removes a key.
    metadata: Mapping[str, str | None] = {}
    # Whether keys that are not named are removed.
    replaces_metadata: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the change leaves all details as they are."""
        return not (self.external_ids or self.metadata or self.replaces_metadata)

    @property
    def ids(self) -> list[ExternalIdRecord]:
        """All named external ids."""
        return [
            ExternalIdRecord(namespace, value)
            for namespace, values in self.external_ids.items()
            for value in values
        ]


def external_id_of(namespace: str, value: str) -> ExternalIdRecord:
    """Return an external id in the form in which it is stored.

    A GTIN has the shortest of its lengths: zeros before it do not change the number.
    """
    value = normalized_code(value)
    if namespace == GTIN and _DIGITS.fullmatch(value) and len(value) in GTIN_LENGTHS:
        number = value.lstrip("0")
        value = number.zfill(min(length for length in GTIN_LENGTHS if length >= len(number)))
    return ExternalIdRecord(namespace, value)


def external_id_problem(id_: ExternalIdRecord) -> tuple[str, str] | None:
    """Describe the fault of an external id, if any: the field `namespace` or `value`, and why."""
    if not NAMESPACE.fullmatch(id_.namespace):
        shape = "must be 1 to 64 of a-z, 0-9, _, . and -, a letter first, for example shopify"
        return "namespace", shape
    problem_of = _gtin_problem if id_.namespace == GTIN else _value_problem
    problem = problem_of(id_.value)
    return ("value", problem) if problem else None


def require_external_id(namespace: str, value: str, field: str = "externalId") -> ExternalIdRecord:
    """Return an external id in its stored form.

    Raises:
        ValidationFailed: the id is malformed.

    """
    id_ = external_id_of(namespace, value)
    if problem := external_id_problem(id_):
        raise invalid_fields([(f"{field}.{problem[0]}", problem[1])])
    return id_


def _value_problem(value: str) -> str | None:
    return printed_text_problem(value, MAX_EXTERNAL_ID_LENGTH)


def _gtin_problem(value: str) -> str | None:
    if not _DIGITS.fullmatch(value) or len(value) not in GTIN_LENGTHS or not value.strip("0"):
        return "must be a GTIN: 8, 12, 13 or 14 digits"
    weights = (3, 1)
    total = sum(int(digit) * weights[n % 2] for n, digit in enumerate(reversed(value[:-1])))
    check = -total % 10
    if int(value[-1]) != check:
        return f"must be a GTIN with the right check digit: {check}, and not {value[-1]}"
    return None


def metadata_problems(metadata: Iterable[tuple[str, str | None]]) -> FieldProblems:
    """List the faults of keys and values of metadata, by the field of the entry."""
    problems = []
    for index, (key, value) in enumerate(metadata):
        if not METADATA_KEY_PATTERN.fullmatch(key):
            problem = "must be 1 to 64 of A-Z, a-z, 0-9, _, . and -"
            problems.append((f"metadata.{index}.key", problem))
        if value is None:
            continue
        if len(value) > MAX_METADATA_VALUE_LENGTH:
            problem = f"must have at most {MAX_METADATA_VALUE_LENGTH} characters"
            problems.append((f"metadata.{index}.value", f"{problem}, and has {len(value)}"))
        if "\x00" in value:
            problems.append((f"metadata.{index}.value", "must not contain the character NUL"))
    return problems


def details_problems(details: ObjectDetails) -> FieldProblems:
    """List the limits that the details of an object exceed."""
    problems = []
    for field, entries, most in (
        ("externalIds", details.external_ids, MAX_EXTERNAL_IDS),
        ("metadata", details.metadata, MAX_METADATA_ENTRIES),
    ):
        length = sum(len(text) for entry in entries for text in _texts(entry))
        if len(entries) > most:
            message = f"must be at most {most} in all, and would be {len(entries)}"
            problems.append((field, message))
        elif length > MAX_DETAILS_LENGTH:
            message = f"must have at most {MAX_DETAILS_LENGTH:,} characters in all, and would have"
            problems.append((field, f"{message} {length:,}"))
    return problems


def _texts(entry: ExternalIdRecord | MetadataRecord) -> tuple[str, str]:
    if isinstance(entry, ExternalIdRecord):
        return entry.namespace, entry.value
    return entry.key, entry.value


def changed_details(before: ObjectDetails, change: DetailsChange) -> ObjectDetails:
    """Apply a change to the details of an object.

    Raises:
        ValidationFailed: the details would exceed a limit.

    """
    kept = {id_ for id_ in before.external_ids if id_.namespace not in change.external_ids}
    old = {} if change.replaces_metadata else {each.key: each.value for each in before.metadata}
    merged = {**old, **change.metadata}
    metadata = [MetadataRecord(key, value) for key, value in merged.items() if value is not None]
    after = ObjectDetails(tuple(sorted(kept | set(change.ids))), tuple(sorted(metadata)))
    if problems := details_problems(after):
        raise invalid_fields(problems)
    return after
