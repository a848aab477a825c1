"""Run by Alembic: brings the tables of the connection that it is handed up to date."""

from __future__ import annotations

from alembic import context

from napari_leukocls.review.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True
)

context.run_migrations()
