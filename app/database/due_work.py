"""Searches for the tenants that have due work of a background job, one statement for all tenants.

On PostgreSQL a search is a function. Row-level security shows a role the rows of one tenant; the
function runs as the owner of the tables, and returns ids of tenants and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import DDL, MetaData, event

# The type of a parameter that is an instant.
INSTANT: Final = "timestamptz"


@dataclass(frozen=True, slots=True, eq=False)
class TenantSearch:
    """A search for tenants: the name of its function, its parameters and a condition.

    Parameters have types of PostgreSQL. The condition is SQL of both engines about a row of
    `tenant`; it has the parameters in braces, and reads an index at a few places for each tenant or
    for each due row.
    """

    name: str
    parameters: Mapping[str, str]
    condition: str

    def statement(self, arguments: Mapping[str, str]) -> str:
        """Return the SELECT of at most `most` tenants, in random order.

        The order lets several workers, and the work of a tenant that fails, not stand in each
        other's way. Tenants under deletion are left out.
        """
        condition = self.condition.format(**arguments)
        return (
            f"SELECT tenant.tenant_id FROM tenant WHERE tenant.deleted_since IS NULL "  # noqa: S608
            f"AND {condition} ORDER BY random() LIMIT {arguments['most']}"
        )

    def call(self, arguments: Mapping[str, str]) -> str:
        """Return the SELECT that calls the function of PostgreSQL."""
        values = ", ".join(arguments[name] for name in (*self.parameters, "most"))
        return f"SELECT * FROM {self.name}({values})"  # noqa: S608

    def ddl(self) -> list[str]:
        """Return the statements that create the function of PostgreSQL.

        Names are looked up in the schema of the tables alone, not in one of the caller. The values
        of the parameters are known to the planner.
        """
        parameters = {**self.parameters, "most": "bigint"}
        declared = ", ".join(f"{name} {type_}" for name, type_ in parameters.items())
        return [
            f"""
            DO $do$BEGIN EXECUTE format($create$
              CREATE FUNCTION {self.name}({declared}) RETURNS SETOF text
              LANGUAGE plpgsql SECURITY DEFINER
              SET search_path = %I, pg_temp SET plan_cache_mode = force_custom_plan AS
              $body$BEGIN
                RETURN QUERY {self.statement({name: name for name in parameters})};
              END$body$
            $create$, current_schema()); END$do$
            """,
            f"REVOKE ALL ON FUNCTION {self.name} FROM PUBLIC",
        ]


DUE_RESERVATIONS: Final = TenantSearch(
    "tenants_with_due_reservations",
    {"due_before": INSTANT},
    """
    tenant.tenant_id IN (
      SELECT r.tenant_id FROM reservation AS r
      WHERE r.status = 'open' AND r.expires_at <= {due_before}
    )
    """,
)
DUE_KEYS: Final = TenantSearch(
    "tenants_with_due_keys",
    {"due_before": INSTANT},
    """
    (SELECT min(k.created_at) FROM idempotency_key AS k WHERE k.tenant_id = tenant.tenant_id)
    < {due_before}
    """,
)
DUE_CHANGES: Final = TenantSearch(
    "tenants_with_due_changes",
    {"due_before": INSTANT},
    """
    (
      SELECT c.created_at FROM change AS c
      WHERE c.tenant_id = tenant.tenant_id AND c.position = tenant.changes_deleted_until + 1
    ) < {due_before}
    """,
)
# The condition is that of `app.ledger.rollup`.
DUE_ROLLUPS: Final = TenantSearch(
    "tenants_with_due_rollups",
    {"min_entries": "bigint", "per_row": "bigint"},
    """
    (SELECT max(a.position) FROM adjustment AS a WHERE a.tenant_id = tenant.tenant_id)
    >= coalesce((
      SELECT s.until + CASE
        WHEN {per_row} * count(*) > {min_entries} THEN {per_row} * count(*) ELSE {min_entries}
      END
      FROM ledger_sum AS s
      WHERE s.tenant_id = tenant.tenant_id
        AND s.kind = 'ledger' AND s.reference = '' AND s.sku = ''
      GROUP BY s.until ORDER BY s.until DESC LIMIT 1
    ), {min_entries})
    """,
)
# The condition is that of `app.reads.due_webhooks`.
DUE_WEBHOOKS: Final = TenantSearch(
    "tenants_with_due_webhooks",
    {"due_before": INSTANT},
    """
    tenant.tenant_id IN (
      SELECT w.tenant_id FROM webhook AS w
      WHERE w.status = 'active' AND w.next_attempt_at <= {due_before}
        AND (w.lease_until IS NULL OR w.lease_until <= {due_before})
        AND EXISTS (
          SELECT 1 FROM change AS c WHERE c.tenant_id = w.tenant_id AND c.position > w.position
        )
    )
    """,
)
TENANT_SEARCHES: Final[Sequence[TenantSearch]] = (
    DUE_RESERVATIONS,
    DUE_KEYS,
    DUE_CHANGES,
    DUE_ROLLUPS,
    DUE_WEBHOOKS,
)


def add_tenant_searches(metadata: MetaData) -> None:
    """Add the functions to the creation of the tables."""
    for search in TENANT_SEARCHES:
        for statement in search.ddl():
            # DDL formats its text with %.
            ddl = DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
            event.listen(metadata, "after_create", ddl.execute_if(dialect="postgresql"))
