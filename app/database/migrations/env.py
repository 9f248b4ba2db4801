"""Alembic's entry point: run the migrations on the given connection."""

from alembic import context

from app.database.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
