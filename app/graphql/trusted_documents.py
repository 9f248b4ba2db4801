"""Trusted documents: a service with a manifest executes only the documents in the manifest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from app.errors import DocumentNotTrusted

SHA256: Final = "sha256:"


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
        """Read a manifest: a JSON object from ids to documents.

        Raises:
            BadManifest: the file is missing or malformed.

        """
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            message = f"The manifest of trusted documents cannot be read: {error}."
            raise BadManifest(message) from error
        if not isinstance(manifest, dict) or not all(
            isinstance(text, str) for text in manifest.values()
        ):
            message = (
                f"The manifest of trusted documents {path} must be a JSON object from ids to "
                "documents."
            )
            raise BadManifest(message)
        return cls(manifest)

    def text(self, parameters: Mapping[str, Any]) -> str:
        """Text of the document that a request names by `documentId`, by hash or by text.

        Raises:
            DocumentNotTrusted: the document is not in the manifest, or the names differ.

        """
        named: list[str | None] = []
        if (query := parameters.get("query")) is not None:
            named.append(query if query in self.texts else None)
        if (id_ := parameters.get("documentId")) is not None:
            named.append(self._by_id.get(id_))
        if (digest := persisted_hash(parameters)) is not None:
            named.append(self._by_hash.get(digest))
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


def document_hash(text: str) -> str:
    """SHA-256 of a document in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
