"""External ids and metadata of SKUs and warehouses: types, inputs and fields."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import strawberry
from strawberry import Private

from app.domain.object_details import (
    MAX_EXTERNAL_IDS,
    MAX_METADATA_ENTRIES,
    DetailsChange,
    ExternalIdRecord,
    MetadataRecord,
    ObjectKind,
    external_id_of,
    external_id_problem,
    metadata_problems,
    require_external_id,
)
from app.errors import InventoryNotFound, WarehouseNotFound, invalid_fields
from app.graphql.schema.context import Context
from app.graphql.schema.edges import edge_to
from app.graphql.schema.fields import described_field, of_plain_values, optional, read_from

NAMESPACE_DESCRIPTION = (
    "Namespace: the other system, for example shopify, or gtin. 1 to 64 of a-z, 0-9, _, . and -, a "
    "letter first."
)
VALUE_DESCRIPTION = (
    "Id in that system: 1 to 255 printed characters, as in SKU codes. In the namespace gtin it is "
    "a GTIN with its check digit, and zeros before it do not count."
)


@strawberry.type(description="An id of a SKU or a warehouse in another system.")
class ExternalId:
    """An id in another system."""

    record: Private[ExternalIdRecord]
    namespace: str = read_from("record.namespace", "Namespace: the other system, or gtin.")
    value: str = read_from(
        "record.value", "Id in that system. A GTIN has the shortest of 8, 12, 13 or 14 digits."
    )


@strawberry.type(description="An entry of the metadata of a SKU or a warehouse.")
class MetadataEntry:
    """An entry of metadata."""

    record: Private[MetadataRecord]
    key: str = read_from("record.key", "Key of the entry.")
    value: str = read_from("record.value", "Value of the entry.")


@of_plain_values
@strawberry.input(description="An external id to look up.")
class ExternalIdInput:
    """An external id to look up."""

    namespace: str = described_field(NAMESPACE_DESCRIPTION)
    value: str = described_field(VALUE_DESCRIPTION)

    def required(self) -> ExternalIdRecord:
        """External id in its stored form.

        Raises:
            ValidationFailed: the id is malformed.

        """
        return require_external_id(self.namespace, self.value)


@of_plain_values
@strawberry.input(description="All external ids of an object in one namespace.")
class ExternalIdsInput:
    """All external ids of an object in one namespace."""

    namespace: str = described_field(NAMESPACE_DESCRIPTION)
    values: list[str] = described_field(
        f"Ids in that system; an empty list removes them. {VALUE_DESCRIPTION}"
    )


@of_plain_values
@strawberry.input(description="An entry of metadata to set or to remove.")
class MetadataEntryInput:
    """An entry of metadata to set or to remove."""

    key: str = described_field("Key: 1 to 64 of A-Z, a-z, 0-9, _, . and -.")
    value: str | None = optional("Value, up to 500 characters. Null removes the entry.")


@strawberry.input
class DetailsInput:
    """Fields of the inputs that set external ids and metadata."""

    external_ids: list[ExternalIdsInput] | None = optional(
        "External ids by namespace. The ids of each named namespace are replaced; those of others "
        "stay. An id belongs to one SKU, or one warehouse, at most (EXTERNAL_ID_TAKEN). An object "
        f"has at most {MAX_EXTERNAL_IDS}."
    )
    metadata: list[MetadataEntryInput] | None = optional(
        "Metadata to set or to remove. Entries that are not named stay. An object has at most "
        f"{MAX_METADATA_ENTRIES}."
    )

    def details(self, *, replaces_metadata: bool = False) -> DetailsChange:
        """Change of the details.

        Raises:
            ValidationFailed: an id or an entry is malformed, or is named twice.

        """
        external_ids, metadata = self.external_ids or [], self.metadata or []
        _check_numbers(external_ids, metadata)
        problems = metadata_problems((entry.key, entry.value) for entry in metadata)
        problems += _repeated("metadata", "key", [entry.key for entry in metadata])
        problems += _repeated("externalIds", "namespace", [each.namespace for each in external_ids])
        values: dict[str, tuple[str, ...]] = {}
        for index, group in enumerate(external_ids):
            ids = [external_id_of(group.namespace, value) for value in group.values]
            # The namespace is checked also without a value.
            for number, id_ in enumerate(ids or [ExternalIdRecord(group.namespace, "1")]):
                field, problem = external_id_problem(id_) or ("", "")
                if field == "namespace" and number == 0:
                    problems.append((f"externalIds.{index}.namespace", problem))
                elif field == "value" and ids:
                    problems.append((f"externalIds.{index}.values.{number}", problem))
            values[group.namespace] = tuple(sorted({id_.value for id_ in ids}))
        if problems:
            raise invalid_fields(problems)
        return DetailsChange(
            external_ids=values,
            metadata={entry.key: entry.value for entry in metadata},
            replaces_metadata=replaces_metadata,
        )


@strawberry.input
class DetailsUpdateInput(DetailsInput):
    """Fields of the inputs that change external ids and metadata."""

    replace_metadata: bool = strawberry.field(
        default=False, description="Whether metadata that is not named in `metadata` is removed."
    )

    def details_change(self) -> DetailsChange:
        """Change of the details."""
        return self.details(replaces_metadata=self.replace_metadata)


def external_ids_edge(kind: ObjectKind, key_of: Callable[[Any], str]) -> Any:  # noqa: ANN401
    """Define the field with the external ids of an object."""

    async def get(context: Context, key: tuple[str, Any]) -> Sequence[ExternalIdRecord]:
        id_, details = key
        if details is not None:
            found: Sequence[ExternalIdRecord] = details.external_ids
            return found
        return await context.loaders.external_ids(kind).load(id_)

    return edge_to(
        get,
        lambda record: (key_of(record), record.details),
        lambda records: [ExternalId(record=record) for record in records],
        "Ids in other systems, ordered by namespace and value.",
    )


def metadata_edge(kind: ObjectKind, key_of: Callable[[Any], str]) -> Any:  # noqa: ANN401
    """Define the field with the metadata of an object."""
    return edge_to(
        _metadata_of(kind),
        lambda record: (key_of(record), record.details),
        lambda records: [MetadataEntry(record=record) for record in records],
        "Metadata: entries that the service stores and does not interpret, ordered by key.",
    )


def _metadata_of(
    kind: ObjectKind,
) -> Callable[[Context, tuple[str, Any]], Awaitable[Sequence[MetadataRecord]]]:
    async def get(context: Context, key: tuple[str, Any]) -> Sequence[MetadataRecord]:
        id_, details = key
        if details is not None:
            found: Sequence[MetadataRecord] = details.metadata
            return found
        return await context.loaders.metadata(kind).load(id_)

    return get


async def require_object(context: Context, kind: ObjectKind, external_id: ExternalIdInput) -> str:
    """SKU code or warehouse id of the object with an external id.

    Raises:
        ValidationFailed: the external id is malformed.
        InventoryNotFound, WarehouseNotFound: no object has it.

    """
    wanted = external_id.required()
    found = await context.loaders.object_by_external_id(kind).load(wanted)
    if found is not None:
        return found
    name, error = (
        ("SKU", InventoryNotFound) if kind is ObjectKind.SKU else ("warehouse", WarehouseNotFound)
    )
    raise error(
        f"No {name} has the external id {str(wanted)!r}.",
        details=[{"namespace": wanted.namespace, "value": wanted.value}],
    )


def _check_numbers(
    external_ids: Sequence[ExternalIdsInput], metadata: Sequence[MetadataEntryInput]
) -> None:
    problems = []
    for field, number, most in (
        ("externalIds", max(len(external_ids), _values_in(external_ids)), MAX_EXTERNAL_IDS),
        ("metadata", len(metadata), MAX_METADATA_ENTRIES),
    ):
        if number > most:
            problems.append((field, f"must hold at most {most}, and holds {number}"))
    if problems:
        raise invalid_fields(problems)


def _values_in(external_ids: Sequence[ExternalIdsInput]) -> int:
    return sum(len(group.values) for group in external_ids)


def _repeated(field: str, name: str, keys: Sequence[str]) -> list[tuple[str, str]]:
    first: dict[str, int] = {}
    return [
        (f"{field}.{index}.{name}", f"is the same as {field}.{first[key]}.{name}")
        for index, key in enumerate(keys)
        if first.setdefault(key, index) != index
    ]
