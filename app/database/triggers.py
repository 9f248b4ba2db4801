"""Triggers of the ledger."""

from typing import Final

from sqlalchemy import DDL, Table, event

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


def add_ledger_triggers(table: Table) -> None:
    """Add the triggers to the creation of the table of adjustments."""
    for dialect, statements in APPEND_ONLY.items():
        for statement in statements:
            # DDL formats its text with %; these statements do not contain it.
            ddl = DDL(statement)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", ddl.execute_if(dialect=dialect))
