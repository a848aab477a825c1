"""The tables of the review store.

Rows of ``corrections``, ``readings``, ``sign_offs``, ``lifts`` and ``audit`` are only ever added. The correction
that is in force is kept with the cell (``cells.in_force``); it also follows from the log.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

#: The newest migration, which makes these tables.
HEAD = "0006"
#: Triggers refuse any change or deletion in these tables.
APPEND_ONLY = (
    "audit",
    "corrections",
    "readings",
    "sign_offs",
    "proficiency_answers",
    "lifts",
    "bench_presses",
)
#: Columns of the box around a cell, half-open, pixels.
BOX = ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")
metadata = MetaData()

slides = Table(
    "slides",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),  # SHA-256 of the pixels
    Column("slide_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("slide_group", Text, nullable=False),  # the slide that a field is part of; may be empty
    Column("patient", Text, nullable=False),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("added_at", String(32), nullable=False),
    Column("current_analysis", Integer),  # analyses.id
)

cases = Table(
    "cases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(32), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("identifier", Text, nullable=False),  # of the sample, not of the patient; may be empty
    Column("goal", Integer),  # leukocytes to count; NULL for all
    Column("added_at", String(32), nullable=False),
)

case_fields = Table(
    "case_fields",
    metadata,
    Column("slide", Integer, ForeignKey("slides.id"), primary_key=True, autoincrement=False),
    Column("case_id", Integer, ForeignKey("cases.id"), nullable=False, index=True),
    Column("position", Integer, nullable=False),  # the order in which the fields are counted
)

case_samples = Table(
    "case_samples",
    metadata,
    Column("case_id", Integer, ForeignKey("cases.id"), primary_key=True, autoincrement=False),
    Column(
        "patient", Text, nullable=False, index=True
    ),  # a number of the laboratory, not a name; may be empty
    Column("content", Text, nullable=False),  # JSON of napari_leukocls.measurement.samples.SampleValues
)

analyses = Table(
    "analyses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("slide", Integer, ForeignKey("slides.id"), nullable=False),
    Column("digest", String(64), nullable=False),  # of outlines, models and settings
    Column("cells_digest", String(64), nullable=False),  # of the rows in `cells` as they were written
    Column("um_per_px", Double),
    Column("glass", Text, nullable=False),
    # JSON; null if too few red cells were measured; no value in analyses stored before revision 0002
    Column("red_cell_density", Text),
    Column("classes", Text, nullable=False),
    Column("segmenter", Text, nullable=False),
    Column("segmenter_sha256", Text, nullable=False),
    Column("classifier", Text, nullable=False),
    Column("classifier_sha256", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("added_at", String(32), nullable=False),
    Column("labels_sha256", String(64)),  # of the outlines; no value in analyses stored before revision 0004
    UniqueConstraint("slide", "digest", name="analyses_once"),
)

cells = Table(
    "cells",
    metadata,
    Column("analysis", Integer, ForeignKey("analyses.id"), nullable=False),
    Column("cell_id", Integer, nullable=False),
    Column("predicted_class", Text, nullable=False),
    Column("probability", Double),
    Column("probabilities", Text, nullable=False),  # JSON, in the order of analyses.classes; may be []
    Column("needs_review", Boolean, nullable=False),
    Column("review_reason", Text, nullable=False),
    Column("ood_score", Double),
    Column("bbox_y0", Integer, nullable=False),
    Column("bbox_x0", Integer, nullable=False),
    Column("bbox_y1", Integer, nullable=False),
    Column("bbox_x1", Integer, nullable=False),
    Column("area_px", Integer, nullable=False),
    Column("revision", Integer, nullable=False, default=0),  # how often its class was changed
    Column("in_force", Integer),  # corrections.id; NULL for the prediction
    PrimaryKeyConstraint("analysis", "cell_id"),
)

crops = Table(
    "crops",
    metadata,
    Column("analysis", Integer, nullable=False),
    Column("cell_id", Integer, nullable=False),
    Column("um_per_px", Double),
    Column("image", LargeBinary, nullable=False),  # PNG with context, the cell's box in its middle
    Column("mask", LargeBinary, nullable=False),  # PNG, 0 or 255: the cell in `image`
    PrimaryKeyConstraint("analysis", "cell_id"),
    ForeignKeyConstraint(["analysis", "cell_id"], ["cells.analysis", "cells.cell_id"]),
)

corrections = Table(
    "corrections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("analysis", Integer, nullable=False),
    Column("cell_id", Integer, nullable=False),
    # correct; undo and redo of one; carry from an earlier analysis; contested: kept, but not in force
    Column("action", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("from_class", Text, nullable=False),
    Column("to_class", Text, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", String(32), nullable=False),
    Column("target", Integer),  # the correction that is undone or redone
    Column("before", Integer),  # the correction that was in force before this one
    ForeignKeyConstraint(["analysis", "cell_id"], ["cells.analysis", "cells.cell_id"]),
    Index("corrections_of_cell", "analysis", "cell_id"),
    Index("corrections_of_reviewer", "analysis", "reviewer"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("analysis", Integer, ForeignKey("analyses.id"), nullable=False),
    Column("reader", Text, nullable=False),
    Column("cell_ids", Text, nullable=False),  # JSON, in the order in which they are shown
    Column("started_at", String(32), nullable=False),
    Column("finished_at", String(32)),
)

readings = Table(
    "readings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session", Integer, ForeignKey("sessions.id"), nullable=False, index=True),
    Column("cell_id", Integer, nullable=False),
    Column("class", Text, nullable=False),
    Column("at", String(32), nullable=False),
)

sign_offs = Table(
    "sign_offs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("analysis", Integer, ForeignKey("analyses.id"), nullable=False, index=True),
    Column("reviewer", Text, nullable=False),
    Column("at", String(32), nullable=False),
    Column("n_counted", Integer, nullable=False),
    Column("state", String(64), nullable=False),  # digest of what was signed
    Column("case_id", Integer),  # cases.id; NULL before revision 0004
    Column("covers", Text),  # JSON: the parts of what was signed; NULL before revision 0004: classes alone
)

lifts = Table(
    "lifts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sign_off", Integer, ForeignKey("sign_offs.id"), nullable=False, index=True),
    Column("actor", Text, nullable=False),  # who changed what was signed; "" for the program
    Column("at", String(32), nullable=False),
    Column("what", Text, nullable=False),
)

proficiency_rounds = Table(
    "proficiency_rounds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("learner", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),  # of the slides
    Column("reference_by", Text, nullable=False),  # who signed them
    Column("depth", String(16), nullable=False),
    Column("required", Double),  # the agreement that the laboratory wants, 0-1
    Column("questions", Text, nullable=False),  # JSON: [slide, analysis, cell_id, class] in the order asked
    Column("started_at", String(32), nullable=False),
    Column("finished_at", String(32)),
)

proficiency_answers = Table(
    "proficiency_answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, ForeignKey("proficiency_rounds.id"), nullable=False, index=True),
    Column("place", Integer, nullable=False),  # of the cell in the round, from 0
    Column("class", Text, nullable=False),
    Column("at", String(32), nullable=False),
)

bench_counts = Table(
    "bench_counts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("case_key", String(32), nullable=False, index=True),  # cases.key; "" at the microscope alone
    Column("name", Text, nullable=False),  # of what was counted
    Column("counted_by", Text, nullable=False),
    Column("goal", Integer),  # leukocytes to count; NULL for no end
    Column("started_at", String(32), nullable=False),
    Column("finished_at", String(32)),
)

bench_presses = Table(
    "bench_presses",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("bench_count", Integer, ForeignKey("bench_counts.id"), nullable=False, index=True),
    Column("action", String(8), nullable=False),  # count or undo
    Column("class", Text, nullable=False),
    Column("slide", String(64), nullable=False),  # slides.key of the cell that was pointed at; may be empty
    Column("cell_id", Integer),
    Column("at", String(32), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("previous", String(64), nullable=False),
    Column("entry", Text, nullable=False),  # canonical JSON
    Column("hash", String(64), nullable=False, unique=True),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
)
