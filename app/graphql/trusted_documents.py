"""Trusted documents: a service with a manifest executes only the documents in the manifest.

A manifest is a JSON object from ids to documents, or the manifest of Apollo's tools. A request that
has the hash of a document without its text is a persisted query.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from app.errors import (
    DocumentNotTrusted,
    InventoryError,
    PersistedQueryNotFound,
)

SHA256: Final = "sha256:"
APOLLO_FORMAT: Final = "apollo-persisted-query-manifest"


class BadManifest(Exception):
    """The manifest of trusted documents is missing or malformed."""


class TrustedDocuments:
    """The documents of a manifest, by id, by the SHA-256 of their text, and by their text."""

    def __init__(self, manifest: Mapping[str, str]) -> None:
        self.texts = frozenset(manifest.values())
        self._by_hash = {document_hash(text): text for text in self.texts}
        self._by_id = {**{SHA256 + key: text for key, text in self._by_hash.items()}, **manifest}

    @classmethod
    def read(cls, path: Path) -> "TrustedDocuments":
        """Read a manifest.

        Raises:
            BadManifest: the file is missing or malformed.

        """
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            message = f"The manifest of trusted documents cannot be read: {error}."
            raise BadManifest(message) from error
        pairs = _pairs_of(manifest)
        if pairs is None or not all(isinstance(text, str) for pair in pairs for text in pair):
            message = (
                f"The manifest of trusted documents {path} must be a JSON object from ids to "
                f'documents, or have "format": "{APOLLO_FORMAT}", "version": 1 and "operations", '
                "each with an id and a body."
            )
            raise BadManifest(message)
        return cls(dict(pairs))

    def text(self, parameters: Mapping[str, Any]) -> str:
        """Text of the document that a request names by `documentId`, by hash or by text.

        Raises:
            DocumentNotTrusted: the document is not in the manifest, or the names differ.

        """
        named: list[str | None] = []
        # An empty text names no document, as in `is_probe`.
        if query := parameters.get("query"):
            named.append(query if query in self.texts else None)
        if id_ := parameters.get("documentId"):
            named.append(self._by_id.get(id_))
        if (digest := persisted_hash(parameters)) is not None:
            named.append(self._by_hash.get(digest))
        if named == [None] and is_probe(parameters):
            raise persisted_query_error(PersistedQueryNotFound)
        if not named or None in named or len(set(named)) > 1:
            raise DocumentNotTrusted(
                "Only registered documents are executed. Name one by `documentId`, by "
                "`extensions.persistedQuery.sha256Hash` or by its exact text."
            )
        return str(named[0])


def persisted_hash(parameters: Mapping[str, Any]) -> str | None:
    """Hash of the document in `extensions.persistedQuery`, if the request has it."""
    persisted = (parameters.get("extensions") or {}).get("persistedQuery")
    digest = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    return digest if isinstance(digest, str) else None


def is_probe(parameters: Mapping[str, Any]) -> bool:
    """Whether a request names its document by nothing but the hash of a persisted query."""
    names = parameters.get("query") or parameters.get("documentId")
    return not names and persisted_hash(parameters) is not None


def persisted_query_error(error: type[InventoryError]) -> InventoryError:
    """Create the error of a persisted query; some clients recognize only this message."""
    return error(error.__name__)


def _pairs_of(manifest: Any) -> list[tuple[Any, Any]] | None:  # noqa: ANN401 - any JSON value
    """Pairs of an id and a document; None if the manifest is malformed."""
    if not isinstance(manifest, dict):
        return None
    if manifest.get("format") != APOLLO_FORMAT:
        return [*manifest.items()]
    operations = manifest.get("operations")
    if manifest.get("version") != 1 or not isinstance(operations, list):
        return None
    if not all(isinstance(operation, dict) for operation in operations):
        return None
    return [(operation.get("id"), operation.get("body")) for operation in operations]


def document_hash(text: str) -> str:
    """SHA-256 of a document in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
