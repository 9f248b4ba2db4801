"""External ids and metadata of SKUs in the cells of a file, as JSON objects."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import orjson

from app.domain.object_details import (
    MAX_EXTERNAL_IDS,
    DetailsChange,
    ExternalIdRecord,
    external_id_of,
    external_id_problem,
    metadata_problems,
)

_EXTERNAL_IDS: Final = msgspec.json.Decoder(dict[str, list[str]])
_METADATA: Final = msgspec.json.Decoder(dict[str, str | None])


def external_ids_cell(pairs: Iterable[tuple[str, str]]) -> str | None:
    """Return the cell of external ids, such as {"gtin":["4006381333931"]}; None without any."""
    values: dict[str, list[str]] = {}
    for namespace, value in pairs:
        values.setdefault(namespace, []).append(value)
    return orjson.dumps(values).decode() if values else None


def metadata_cell(pairs: Iterable[tuple[str, str]]) -> str | None:
    """Return the cell of metadata, such as {"color":"blue"}; None without any."""
    entries = dict(pairs)
    return orjson.dumps(entries).decode() if entries else None


def external_ids_problem(text: str) -> str | None:
    """Describe the fault of a cell of external ids, if any."""
    try:
        values = _EXTERNAL_IDS.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return 'must be a JSON object of lists, such as {"gtin": ["4006381333931"]}'
    if max(len(values), sum(map(len, values.values()))) > MAX_EXTERNAL_IDS:
        return f"must hold at most {MAX_EXTERNAL_IDS} ids"
    for namespace, given in values.items():
        if problem := external_id_problem(ExternalIdRecord(namespace, "")):
            field, fault = problem
            if field == "namespace":
                return f"has the namespace {namespace!r}, which {fault}"
        for value in given:
            if problem := external_id_problem(external_id_of(namespace, value)):
                return f"has the value {value!r}, which {problem[1]}"
    return None


def metadata_problem(text: str) -> str | None:
    """Describe the fault of a cell of metadata, if any."""
    try:
        values = _METADATA.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return 'must be a JSON object of texts, such as {"color": "blue"}'
    problems = metadata_problems(values.items())
    return f"has an entry that {problems[0][1]}" if problems else None


def change_of_row(row: Mapping[str, Any]) -> DetailsChange:
    """Return the change of the details of a SKU by a row; an empty cell changes nothing."""
    ids, metadata = row.get("external_ids"), row.get("metadata")
    values = _EXTERNAL_IDS.decode(ids) if ids else {}
    return DetailsChange(
        external_ids={
            namespace: sorted({external_id_of(namespace, value).value for value in given})
            for namespace, given in values.items()
        },
        metadata=_METADATA.decode(metadata) if metadata else {},
    )
