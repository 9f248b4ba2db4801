"""Alembic's entry point: run the migrations on the given connection."""

from alembic import context
from alembic.runtime.migration import MigrationInfo
from sqlalchemy import text

from app.database.schema import METADATA


def note_compatibility(*, step: MigrationInfo, **_options: object) -> None:
    """Store the oldest revision whose version of the service works with the new schema."""
    statement = text("UPDATE alembic_version SET compatible_since = :since")
    since = getattr(step.up_revision, "module").compatible_since  # noqa: B009 - untyped
    context.execute(statement.bindparams(since=since))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    on_version_apply=note_compatibility,  # type: ignore[arg-type]  # called by keywords
)
with context.begin_transaction():
    context.run_migrations()
