"""The database of a process: its connections, its snapshots and its transactions."""

from app.database.snapshot import Snapshot
from app.database.transactions import Transactions


class Database(Transactions):
    """One database of a process, SQLite or PostgreSQL."""

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
