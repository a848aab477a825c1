"""Proficiency rounds of learners, and their answers, which are only ever added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"

down_revision = "0002"

branch_labels = None

depends_on = None


def upgrade() -> None:
    """Make both tables, and refuse changes of the answers."""
    op.create_table(
        "proficiency_rounds",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("learner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("reference_by", sa.Text, nullable=False),
        sa.Column("depth", sa.String(16), nullable=False),
        sa.Column("required", sa.Double),
        sa.Column("questions", sa.Text, nullable=False),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("finished_at", sa.String(32)),
    )
    op.create_table(
        "proficiency_answers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("round", sa.Integer, sa.ForeignKey("proficiency_rounds.id"), nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("class", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("ix_proficiency_rounds_learner", "proficiency_rounds", ["learner"])
    op.create_index("ix_proficiency_answers_round", "proficiency_answers", ["round"])
    if op.get_bind().dialect.name == "postgresql":
        # The function was made by the first revision.
        op.execute(
            "CREATE TRIGGER proficiency_answers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
            "ON proficiency_answers FOR EACH STATEMENT EXECUTE FUNCTION leukocls_append_only()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER proficiency_answers_no_{event.lower()} BEFORE {event} ON proficiency_answers "
            "BEGIN SELECT RAISE(ABORT, 'rows of proficiency_answers are never changed or deleted'); END"
        )
