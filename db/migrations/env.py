"""Alembic's entry: runs the revisions on the connection that db.database hands over."""

from alembic import context

from db.database import metadata_of_project

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run migrations through `xdnawatch` or db.database.Database.migrate()")
context.configure(
    connection=connection,
    target_metadata=metadata_of_project(),
    render_as_batch=True,  # SQLite cannot alter most things in place
    user_module_prefix="db.base.",
)
with context.begin_transaction():
    context.run_migrations()
