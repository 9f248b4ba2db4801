"""The complete schema: all tables with their triggers and row-level security."""

from typing import Final

from app.database import external_id_table  # noqa: F401 - adds its table to the metadata
from app.database.due_work import add_tenant_searches
from app.database.row_level_security import add_row_level_security
from app.database.tables import adjustment, tenant
from app.database.triggers import add_ledger_triggers
from app.database.webhook_tables import webhook

METADATA: Final = webhook.metadata
# A role that does not own these tables sees only the rows of the tenant of its transaction. It sees
# all rows of `tenant`, because background jobs list the tenants.
ISOLATED_TABLES: Final = tuple(name for name in METADATA.tables if name != tenant.name)

add_ledger_triggers(adjustment)
add_tenant_searches(METADATA)
for _name in ISOLATED_TABLES:
    add_row_level_security(METADATA.tables[_name])
