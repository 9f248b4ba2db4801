"""Reads of external ids and metadata, by SKU code or warehouse id."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from msgspec.json import Decoder
from sqlalchemy import Column, Select, Text, literal_column, select

from app.database.external_id_table import external_id
from app.database.parameters import TENANT, as_json, in_key_array, rows_from
from app.database.session import Session
from app.database.tables import sku, warehouse
from app.domain.object_details import ExternalIdRecord, MetadataRecord, ObjectKind

METADATA_DECODER: Final = Decoder(tuple[MetadataRecord, ...])
EXTERNAL_ID_TYPES: Final = {"namespace": Text(), "value": Text()}
# The columns of the objects: in the table of external ids, and in their own tables.
OWNER_COLUMNS: Final[Mapping[ObjectKind, Column[Any]]] = {
    ObjectKind.SKU: external_id.c.sku,
    ObjectKind.WAREHOUSE: external_id.c.warehouse_id,
}
OBJECT_COLUMNS: Final[Mapping[ObjectKind, Column[Any]]] = {
    ObjectKind.SKU: sku.c.sku,
    ObjectKind.WAREHOUSE: warehouse.c.id,
}


async def get_external_ids(
    session: Session, tenant_id: str, *, kind: ObjectKind, ids: Sequence[str]
) -> dict[str, tuple[ExternalIdRecord, ...]]:
    """Read the external ids of objects; objects without any are absent."""
    parameters = {"tenant_id": tenant_id, "ids": ids}
    found: dict[str, list[ExternalIdRecord]] = {}
    for id_, namespace, value in await session.rows(
        _external_ids(session.dialect, kind), parameters
    ):
        found.setdefault(id_, []).append(ExternalIdRecord(namespace, value))
    return {id_: tuple(sorted(values)) for id_, values in found.items()}


async def get_metadata(
    session: Session, tenant_id: str, *, kind: ObjectKind, ids: Sequence[str]
) -> dict[str, tuple[MetadataRecord, ...]]:
    """Read the metadata of objects; objects without any are absent."""
    parameters = {"tenant_id": tenant_id, "ids": ids}
    rows = await session.rows(_metadata(session.dialect, kind), parameters)
    return {id_: METADATA_DECODER.decode(entries) for id_, entries in rows}


async def find_by_external_ids(
    session: Session, tenant_id: str, *, kind: ObjectKind, ids: Iterable[ExternalIdRecord]
) -> dict[ExternalIdRecord, str]:
    """Find the objects that have external ids; unknown ids are absent."""
    wanted = as_json({"namespace": each.namespace, "value": each.value} for each in ids)
    parameters = {"tenant_id": tenant_id, "wanted": wanted}
    rows = await session.rows(_owners(session.dialect, kind), parameters)
    return {ExternalIdRecord(namespace, value): id_ for namespace, value, id_ in rows}


def _is_kind(kind: ObjectKind) -> Any:  # noqa: ANN401 - a condition
    return external_id.c.kind == literal_column(f"'{kind}'", Text)


@cache
def _external_ids(dialect: str, kind: ObjectKind) -> Select[Any]:
    owner = OWNER_COLUMNS[kind]
    return select(owner, external_id.c.namespace, external_id.c.value).where(
        external_id.c.tenant_id == TENANT, owner.is_not(None), in_key_array(dialect, owner, "ids")
    )


@cache
def _metadata(dialect: str, kind: ObjectKind) -> Select[Any]:
    key = OBJECT_COLUMNS[kind]
    return select(key, key.table.c.metadata_entries).where(
        key.table.c.tenant_id == TENANT,
        in_key_array(dialect, key, "ids"),
        key.table.c.metadata_entries.is_not(None),
    )


@cache
def _owners(dialect: str, kind: ObjectKind) -> Select[Any]:
    wanted = rows_from(dialect, "wanted", EXTERNAL_ID_TYPES)
    is_wanted = (external_id.c.namespace == wanted.c.namespace) & (
        external_id.c.value == wanted.c.value
    )
    return (
        select(external_id.c.namespace, external_id.c.value, OWNER_COLUMNS[kind])
        .select_from(wanted.join(external_id, is_wanted))
        .where(external_id.c.tenant_id == TENANT, _is_kind(kind))
    )
