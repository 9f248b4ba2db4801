"""The levels that an import has already written."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import Integer, bindparam, func, select

from app.database.parameters import TENANT
from app.database.session import Session
from app.database.tables import adjustment
from app.domain.stock import LevelKey
from app.files.staging import Staging

# Memory holds this many entries.
PAGE_OF_ENTRIES: Final = 1_000
_LAST_POSITION: Final = select(func.coalesce(func.max(adjustment.c.position), 0)).where(
    adjustment.c.tenant_id == TENANT
)
# Whatever index the database chooses, an entry is read once.
_ENTRIES: Final = (
    select(adjustment.c.position, adjustment.c.sku, adjustment.c.warehouse_id)
    .where(
        adjustment.c.tenant_id == TENANT,
        adjustment.c.bulk_id == bindparam("run", type_=adjustment.c.bulk_id.type),
        adjustment.c.position > bindparam("after", type_=adjustment.c.position.type),
        adjustment.c.position <= bindparam("last", type_=adjustment.c.position.type),
    )
    .order_by(adjustment.c.position)
    .limit(bindparam("page", type_=Integer))
)


class ImportedLevels:
    """The levels that have a ledger entry of a run; the staging stores them.

    Each question reads the entries since the last one, so those of another process are found.
    """

    def __init__(self, staging: Staging, run_id: str) -> None:
        self._staging = staging
        self._run_id = run_id
        self._position = 0

    async def among(
        self, session: Session, tenant_id: str, levels: Collection[LevelKey]
    ) -> set[LevelKey]:
        """Return those of some levels that have an entry."""
        [(last,)] = await session.rows(_LAST_POSITION, {"tenant_id": tenant_id})
        while self._position < last:
            parameters = {
                "tenant_id": tenant_id,
                "run": self._run_id,
                "after": self._position,
                "last": last,
                "page": PAGE_OF_ENTRIES,
            }
            entries = await session.rows(_ENTRIES, parameters)
            self._staging.add_imported(self._run_id, [(sku, id_) for _, sku, id_ in entries])
            is_page_full = len(entries) == PAGE_OF_ENTRIES
            self._position = entries[-1].position if is_page_full else last
        return self._staging.imported_among(self._run_id, levels)
