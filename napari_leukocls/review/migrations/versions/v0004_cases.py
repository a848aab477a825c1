"""Cases: the fields that make one count, with its goal; what a signature covers, and when it was lifted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"

down_revision = "0003"

branch_labels = None

depends_on = None


def upgrade() -> None:
    """Make the tables. Each slide that is there already becomes a case of one field."""
    op.create_table(
        "cases",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(32), nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("identifier", sa.Text, nullable=False),
        sa.Column("goal", sa.Integer),
        sa.Column("added_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "case_fields",
        sa.Column("slide", sa.Integer, sa.ForeignKey("slides.id"), primary_key=True, autoincrement=False),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
    )
    op.create_index("ix_case_fields_case_id", "case_fields", ["case_id"])
    op.create_table(
        "lifts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sign_off", sa.Integer, sa.ForeignKey("sign_offs.id"), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("what", sa.Text, nullable=False),
    )
    op.create_index("ix_lifts_sign_off", "lifts", ["sign_off"])
    op.add_column("sign_offs", sa.Column("case_id", sa.Integer))
    op.add_column("sign_offs", sa.Column("covers", sa.Text))
    op.add_column("analyses", sa.Column("labels_sha256", sa.String(64)))
    op.execute(
        "INSERT INTO cases (key, name, identifier, goal, added_at) "
        "SELECT substr(key, 1, 32), slide_id, '', goal, added_at FROM slides"
    )
    op.execute(
        "INSERT INTO case_fields (slide, case_id, position) "
        "SELECT slides.id, cases.id, 0 FROM slides JOIN cases ON cases.key = substr(slides.key, 1, 32)"
    )
    op.drop_column("slides", "goal")
    _append_only("lifts")


def _append_only(table: str) -> None:
    """Refuse changes and deletions, as for the other tables of the history."""
    if op.get_bind().dialect.name != "sqlite":
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION leukocls_append_only()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed or deleted'); END"
        )
