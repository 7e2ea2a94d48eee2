"""What alembic runs: the migrations, in the transaction of the connection it receives."""

from alembic import context

from forkpoint_server.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
