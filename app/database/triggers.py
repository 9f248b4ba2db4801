"""Triggers of the ledger: adjustments are append-only, except those of a tenant under deletion."""

from typing import Final

from sqlalchemy import DDL, Table, event

from app.database.placement import Placement

_IS_DELETED: Final = """
EXISTS (SELECT 1 FROM tenant WHERE tenant_id = OLD.tenant_id AND deleted_since IS NOT NULL)
"""


def _refusal_of_truncate(table: str) -> str:
    return f"""
        CREATE TRIGGER adjustment_refuses_truncate BEFORE TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_adjustments()
        """


APPEND_ONLY: Final = {
    "sqlite": [
        """
        CREATE TRIGGER adjustment_refuses_update BEFORE UPDATE ON adjustment
        BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END
        """,
        f"""
        CREATE TRIGGER adjustment_refuses_delete BEFORE DELETE ON adjustment
        WHEN NOT {_IS_DELETED}
        BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END
        """,
    ],
    "postgresql": [
        f"""
        CREATE FUNCTION refuse_change_of_adjustments() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN
          IF TG_OP = 'DELETE' THEN
            IF {_IS_DELETED} THEN RETURN OLD; END IF;
          END IF;
          RAISE EXCEPTION 'adjustments are append-only';
        END$$
        """,
        """
        CREATE TRIGGER adjustment_is_append_only BEFORE UPDATE OR DELETE ON adjustment
        FOR EACH ROW EXECUTE FUNCTION refuse_change_of_adjustments()
        """,
        _refusal_of_truncate("adjustment"),
    ],
}


def append_only_ddl(dialect: str, placement: Placement) -> list[str]:
    """Return the statements that make adjustments append-only."""
    if placement.is_distributed:
        # Citus has no triggers on distributed tables. The privileges of the serving role remain,
        # and the owner takes these from itself.
        return ["REVOKE UPDATE, TRUNCATE ON adjustment FROM CURRENT_USER"]
    # Partitions inherit the triggers for rows, and not those for statements.
    partitions = placement.partitions_of("adjustment")
    return [*APPEND_ONLY[dialect], *map(_refusal_of_truncate, partitions)]


def add_ledger_triggers(table: Table) -> None:
    """Add the triggers to the creation of the table of adjustments."""
    for dialect, statements in APPEND_ONLY.items():
        for statement in statements:
            # DDL formats its text with %; these statements do not contain it.
            ddl = DDL(statement)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", ddl.execute_if(dialect=dialect))
