"""Citus, the extension of PostgreSQL that distributes tables over several servers."""

import re
from typing import Any, Final

from app.database.beginnings import SEPARATOR
from app.database.postgresql import PostgresqlConnection

HAS_CITUS: Final = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"
# Citus cannot plan without the tenant of a statement, and its workers need the time limits and the
# tenant of a transaction.
CITUS_SETTINGS: Final = {
    "plan_cache_mode": "force_custom_plan",
    "citus.propagate_set_commands": "local",
}
RETURNS_OR_UPSERTS: Final = re.compile(r"\b(RETURNING|ON CONFLICT)\b")


class CitusConnection(PostgresqlConnection):
    """A connection to Citus, which sends the whole message of a SET LOCAL to its workers.

    Citus copies the rows of an INSERT .. SELECT to the worker by COPY, and PostgreSQL has no COPY
    under row-level security. With RETURNING or ON CONFLICT, Citus does not use COPY on the table.
    """

    async def execute(self, query: str, *arguments: Any, **options: Any) -> str:  # noqa: ANN401 - as in the base class
        """Execute each of several statements by a message of its own."""
        status = ""
        for statement in query.split(SEPARATOR):
            status = await super().execute(statement, *arguments, **options)
        return status

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ANN401 - as in the base class
        """Fetch the rows of a statement; an INSERT returns rows, too."""
        if query.startswith("INSERT") and not RETURNS_OR_UPSERTS.search(query):
            query += " RETURNING tenant_id"
        rows: list[Any] = await super().fetch(query, *arguments, **options)
        return rows
