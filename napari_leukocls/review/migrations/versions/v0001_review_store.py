"""The first tables of the review store, and the triggers that keep its history from being rewritten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"

down_revision = None

branch_labels = None

depends_on = None

APPEND_ONLY = ("audit", "corrections", "readings", "sign_offs")


def upgrade() -> None:
    """Make the tables and the triggers."""
    _slides()
    _cells()
    _history()
    _readings()
    _audit()
    for table in APPEND_ONLY:
        if op.get_bind().dialect.name == "sqlite":
            _refuse_in_sqlite(table)
        else:
            _refuse_in_postgresql(table)


def _slides() -> None:
    """Slides, and the analyses of each."""
    op.create_table(
        "slides",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(64), nullable=False, unique=True),
        sa.Column("slide_id", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("slide_group", sa.Text, nullable=False),
        sa.Column("patient", sa.Text, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("added_at", sa.String(32), nullable=False),
        sa.Column("current_analysis", sa.Integer),
        sa.Column("goal", sa.Integer),
    )
    op.create_table(
        "analyses",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("slide", sa.Integer, sa.ForeignKey("slides.id"), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("cells_digest", sa.String(64), nullable=False),
        sa.Column("um_per_px", sa.Double),
        sa.Column("glass", sa.Text, nullable=False),
        sa.Column("classes", sa.Text, nullable=False),
        sa.Column("segmenter", sa.Text, nullable=False),
        sa.Column("segmenter_sha256", sa.Text, nullable=False),
        sa.Column("classifier", sa.Text, nullable=False),
        sa.Column("classifier_sha256", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("added_at", sa.String(32), nullable=False),
        sa.UniqueConstraint("slide", "digest", name="analyses_once"),
    )


def _cells() -> None:
    """Cells as they were predicted, and their pictures."""
    op.create_table(
        "cells",
        sa.Column("analysis", sa.Integer, sa.ForeignKey("analyses.id"), nullable=False),
        sa.Column("cell_id", sa.Integer, nullable=False),
        sa.Column("predicted_class", sa.Text, nullable=False),
        sa.Column("probability", sa.Double),
        sa.Column("probabilities", sa.Text, nullable=False),
        sa.Column("needs_review", sa.Boolean, nullable=False),
        sa.Column("review_reason", sa.Text, nullable=False),
        sa.Column("ood_score", sa.Double),
        sa.Column("bbox_y0", sa.Integer, nullable=False),
        sa.Column("bbox_x0", sa.Integer, nullable=False),
        sa.Column("bbox_y1", sa.Integer, nullable=False),
        sa.Column("bbox_x1", sa.Integer, nullable=False),
        sa.Column("area_px", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("in_force", sa.Integer),
        sa.PrimaryKeyConstraint("analysis", "cell_id"),
    )
    op.create_table(
        "crops",
        sa.Column("analysis", sa.Integer, nullable=False),
        sa.Column("cell_id", sa.Integer, nullable=False),
        sa.Column("um_per_px", sa.Double),
        sa.Column("image", sa.LargeBinary, nullable=False),
        sa.Column("mask", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("analysis", "cell_id"),
        sa.ForeignKeyConstraint(["analysis", "cell_id"], ["cells.analysis", "cells.cell_id"]),
    )


def _history() -> None:
    """What people said of the cells."""
    op.create_table(
        "corrections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("analysis", sa.Integer, nullable=False),
        sa.Column("cell_id", sa.Integer, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("from_class", sa.Text, nullable=False),
        sa.Column("to_class", sa.Text, nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("target", sa.Integer),
        sa.Column("before", sa.Integer),
        sa.ForeignKeyConstraint(["analysis", "cell_id"], ["cells.analysis", "cells.cell_id"]),
    )
    op.create_index("corrections_of_cell", "corrections", ["analysis", "cell_id"])
    op.create_index("corrections_of_reviewer", "corrections", ["analysis", "reviewer"])


def _readings() -> None:
    """Second reads and signatures."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("analysis", sa.Integer, sa.ForeignKey("analyses.id"), nullable=False),
        sa.Column("reader", sa.Text, nullable=False),
        sa.Column("cell_ids", sa.Text, nullable=False),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("finished_at", sa.String(32)),
    )
    op.create_table(
        "readings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("session", sa.Integer, sa.ForeignKey("sessions.id"), nullable=False),
        sa.Column("cell_id", sa.Integer, nullable=False),
        sa.Column("class", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
    )
    op.create_table(
        "sign_offs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("analysis", sa.Integer, sa.ForeignKey("analyses.id"), nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("n_counted", sa.Integer, nullable=False),
        sa.Column("state", sa.String(64), nullable=False),
    )
    op.create_index("ix_readings_session", "readings", ["session"])
    op.create_index("ix_sign_offs_analysis", "sign_offs", ["analysis"])


def _audit() -> None:
    """The log, and where it ends."""
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )


def _refuse_in_sqlite(table: str) -> None:
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed or deleted'); END"
        )


def _refuse_in_postgresql(table: str) -> None:
    op.execute(
        "CREATE OR REPLACE FUNCTION leukocls_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION leukocls_append_only()"
    )
