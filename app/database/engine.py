"""The database of a process: its connections, its snapshots and its transactions."""

import math
import time
from typing import Final

import structlog

from app.database.snapshot import Snapshot
from app.database.transactions import Transactions
from app.settings import Settings

log = structlog.get_logger()
# A replica that failed is not asked for so long.
AVOIDED_SECONDS: Final = 5.0
# A replica that does not answer in this time is given up.
REPLICA_STATEMENT_MS: Final = 1_000


class Database(Transactions):
    """One database of a process, SQLite or PostgreSQL, and the replica for its reads, if any."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.replica = None if settings.read_database_url is None else Replica(settings)

    def snapshot(
        self,
        *,
        single: bool = False,
        alone: bool = False,
        tenant_id: str | None = None,
        is_proven: bool = True,
    ) -> Snapshot:
        """Open a snapshot: all its statements see one state of the database.

        A `single` statement needs no transaction. If it is also `alone`, it runs without
        concurrent fields whose failure could cancel it. With row-level security, only the rows of
        the tenant are visible. The connection is charged to the share of the tenant, unless the
        tenant id is a claim of a credential that is not checked yet.
        """
        share = tenant_id if is_proven else None
        return Snapshot(self, single=single, alone=alone, tenant_id=tenant_id, share=share)

    async def dispose(self) -> None:
        """Wait for the work under way, then close all connections."""
        await super().dispose()
        if self.replica is not None:
            await self.replica.dispose()


class Replica(Database):
    """A replica, which is avoided for some seconds after a fault."""

    def __init__(self, settings: Settings) -> None:
        changed = {
            "database_url": settings.read_database_url,
            "database_statement_timeout_ms": min(
                settings.database_statement_timeout_ms, REPLICA_STATEMENT_MS
            ),
            "read_database_url": None,
        }
        super().__init__(settings.model_copy(update=changed))
        self._avoided_until = -math.inf

    @property
    def is_usable(self) -> bool:
        """Whether the replica may be asked."""
        return time.monotonic() >= self._avoided_until

    def avoid(self, error: Exception) -> None:
        """Leave the replica alone for some seconds, after a fault."""
        cause = getattr(error, "cause", "") or f"{type(error).__name__}: {error}"
        log.warning("replica_avoided", address=self.address, cause=cause)
        self._avoided_until = time.monotonic() + AVOIDED_SECONDS
