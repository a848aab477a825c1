"""Values of the sample of a case: counts of the analyser, the number of the patient, age and sex."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"

down_revision = "0005"

branch_labels = None

depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "case_samples",
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), primary_key=True, autoincrement=False),
        sa.Column("patient", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_index("ix_case_samples_patient", "case_samples", ["patient"])
