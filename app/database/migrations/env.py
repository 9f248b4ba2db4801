"""What Alembic runs: the steps, on the connection that it is given."""

from alembic import context

from app.database.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
