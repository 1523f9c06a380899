"""Run by Alembic: the migrations inside the transaction of the connection that the program opened."""

from alembic import context

from cell.records.schema import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
