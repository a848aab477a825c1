"""Counts by keys, as on a bench counter, and their presses, which are only ever added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"

down_revision = "0004"

branch_labels = None

depends_on = None


def upgrade() -> None:
    """Make both tables, and refuse changes of the presses."""
    op.create_table(
        "bench_counts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("case_key", sa.String(32), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("counted_by", sa.Text, nullable=False),
        sa.Column("goal", sa.Integer),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("finished_at", sa.String(32)),
    )
    op.create_table(
        "bench_presses",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("bench_count", sa.Integer, sa.ForeignKey("bench_counts.id"), nullable=False),
        sa.Column("action", sa.String(8), nullable=False),
        sa.Column("class", sa.Text, nullable=False),
        sa.Column("slide", sa.String(64), nullable=False),
        sa.Column("cell_id", sa.Integer),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_index("ix_bench_counts_case_key", "bench_counts", ["case_key"])
    op.create_index("ix_bench_presses_bench_count", "bench_presses", ["bench_count"])
    if op.get_bind().dialect.name == "postgresql":
        # The function was made by the first revision.
        op.execute(
            "CREATE TRIGGER bench_presses_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
            "ON bench_presses FOR EACH STATEMENT EXECUTE FUNCTION leukocls_append_only()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER bench_presses_no_{event.lower()} BEFORE {event} ON bench_presses "
            "BEGIN SELECT RAISE(ABORT, 'rows of bench_presses are never changed or deleted'); END"
        )
