"""Run by Alembic for each upgrade, with the connection of whoever asked."""

from __future__ import annotations

from alembic import context

from llm_installer.studio.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Table.metadata, render_as_batch=True
)
context.run_migrations()
