"""What Alembic runs to migrate: on the connection, and in the transaction, that `migrate.py` hands it."""

from alembic import context

from pocketforge.history.tables import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # all of it or nothing, in SQLite too
)
with context.begin_transaction():
    context.run_migrations()
