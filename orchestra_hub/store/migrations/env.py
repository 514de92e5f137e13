"""Runs revisions on the connection it is handed, inside the caller's transaction. Alembic executes this file."""

from __future__ import annotations

from alembic import context

from orchestra_hub.store.models import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
