"""The optical density of a slide's red cells, beside the colour of its glass: classifiers' crop rules use both."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"

down_revision = "0001"

branch_labels = None

depends_on = None


def upgrade() -> None:
    """Add the column; analyses that are there already have no value."""
    op.add_column("analyses", sa.Column("red_cell_density", sa.Text))
