"""Triggers of the ledger."""

from datetime import timedelta
from typing import Final

from sqlalchemy import DDL, Table, event

# Rollups may already cover an adjustment that is inserted this long after its `created_at`.
LATE_AFTER: Final = timedelta(hours=1)

APPEND_ONLY: Final = {
    "sqlite": [
        f"""
        CREATE TRIGGER adjustment_refuses_{action} BEFORE {action.upper()} ON adjustment
        BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END
        """
        for action in ("update", "delete")
    ],
    "postgresql": [
        """
        CREATE FUNCTION refuse_change_of_adjustments() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'adjustments are append-only'; END$$
        """,
        """
        CREATE TRIGGER adjustment_is_append_only BEFORE UPDATE OR DELETE ON adjustment
        FOR EACH ROW EXECUTE FUNCTION refuse_change_of_adjustments()
        """,
        """
        CREATE TRIGGER adjustment_refuses_truncate BEFORE TRUNCATE ON adjustment
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_adjustments()
        """,
    ],
}
# An adjustment older than the end of the rollups moves `summed_until` back to its day, so the
# rollups from that day on are computed again. PostgreSQL compares with the clock first, because
# that costs nothing for ordinary adjustments. Then it locks the tenant's row, as the rollup job
# does.
REOPENING: Final = {
    "sqlite": [
        """
        CREATE TRIGGER adjustment_reopens_its_day AFTER INSERT ON adjustment
        WHEN NEW.created_at < (SELECT summed_until FROM tenant WHERE tenant_id = NEW.tenant_id)
        BEGIN
          UPDATE tenant SET summed_until = substr(NEW.created_at, 1, 10) || 'T00:00:00.000Z'
          WHERE tenant_id = NEW.tenant_id;
        END
        """,
    ],
    "postgresql": [
        """
        CREATE FUNCTION reopen_day_of_adjustment() RETURNS trigger LANGUAGE plpgsql AS
        $$DECLARE known timestamptz;
        BEGIN
          SELECT summed_until INTO known FROM tenant WHERE tenant_id = NEW.tenant_id
          FOR NO KEY UPDATE;
          IF NEW.created_at < known THEN
            UPDATE tenant SET summed_until = date_trunc('day', NEW.created_at, 'UTC')
            WHERE tenant_id = NEW.tenant_id;
          END IF;
          RETURN NULL;
        END$$
        """,
        f"""
        CREATE TRIGGER adjustment_reopens_its_day AFTER INSERT ON adjustment FOR EACH ROW
        WHEN (NEW.created_at < now() - interval '{LATE_AFTER // timedelta(hours=1)} hour')
        EXECUTE FUNCTION reopen_day_of_adjustment()
        """,
    ],
}


def add_ledger_triggers(table: Table) -> None:
    """Add the triggers to the creation of the table of adjustments."""
    for dialect in APPEND_ONLY:
        for statement in (*APPEND_ONLY[dialect], *REOPENING[dialect]):
            # DDL formats its text with %; these statements do not contain it.
            ddl = DDL(statement)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", ddl.execute_if(dialect=dialect))
