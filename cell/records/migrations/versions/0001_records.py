"""The records: the chain, what it links, contents and pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "contents",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "entries",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_entries_hash"), "entries", ["hash"], unique=False)
    op.create_table(
        "removals",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_table(
        "runs",
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("cell_hash", sa.String(length=64), nullable=False),
        sa.Column("part_hash", sa.String(length=64), nullable=False),
        sa.Column("production_hash", sa.String(length=64), nullable=False),
        sa.Column("model_hash", sa.String(length=64), nullable=False),
        sa.Column("made_for_hash", sa.String(length=64), nullable=False),
        sa.Column("settings_hash", sa.String(length=64), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["cell_hash"], ["contents.hash"]),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["made_for_hash"], ["contents.hash"]),
        sa.ForeignKeyConstraint(["model_hash"], ["contents.hash"]),
        sa.ForeignKeyConstraint(["part_hash"], ["contents.hash"]),
        sa.ForeignKeyConstraint(["production_hash"], ["contents.hash"]),
        sa.ForeignKeyConstraint(["settings_hash"], ["contents.hash"]),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_table(
        "inspections",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("part_id", sa.String(length=200), nullable=False),
        sa.Column("lot", sa.String(length=200), nullable=False),
        sa.Column("cavity", sa.Integer(), nullable=False),
        sa.Column("shot", sa.Integer(), nullable=False),
        sa.Column("declared", sa.Text(), nullable=True),
        sa.Column("audits", sa.String(length=64), nullable=True),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["run"], ["runs.entry"]),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index(op.f("ix_inspections_lot"), "inspections", ["lot"], unique=False)
    op.create_index(op.f("ix_inspections_part_id"), "inspections", ["part_id"], unique=False)
    op.create_index(op.f("ix_inspections_run"), "inspections", ["run"], unique=False)
    op.create_table(
        "pictures",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["removed"], ["removals.entry"]),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "alarms",
        sa.Column("inspection", sa.Integer(), nullable=False),
        sa.Column("chart", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["inspection"], ["inspections.entry"]),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index(op.f("ix_alarms_inspection"), "alarms", ["inspection"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("inspection", sa.Integer(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("decided", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["inspection"], ["inspections.entry"]),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index(op.f("ix_decisions_inspection"), "decisions", ["inspection"], unique=False)
    op.create_table(
        "endings",
        sa.Column("inspection", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("bin", sa.Text(), nullable=True),
        sa.Column("cycle_s", sa.Float(precision=53), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["inspection"], ["inspections.entry"]),
        sa.PrimaryKeyConstraint("entry"),
        sa.UniqueConstraint("inspection"),
    )
    op.create_index(op.f("ix_endings_verdict"), "endings", ["verdict"], unique=False)
    op.create_table(
        "faults",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("inspection", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["inspection"], ["inspections.entry"]),
        sa.ForeignKeyConstraint(["run"], ["runs.entry"]),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index(op.f("ix_faults_inspection"), "faults", ["inspection"], unique=False)
    op.create_index(op.f("ix_faults_run"), "faults", ["run"], unique=False)
    op.create_table(
        "removed_pictures",
        sa.Column("removal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["hash"], ["pictures.hash"]),
        sa.ForeignKeyConstraint(["removal"], ["removals.entry"]),
        sa.PrimaryKeyConstraint("removal", "hash"),
    )
    op.create_table(
        "verdicts",
        sa.Column("inspection", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("threshold", sa.Float(precision=53), nullable=True),
        sa.Column("mass_g", sa.Float(precision=53), nullable=True),
        sa.Column("mass_stable", sa.Boolean(), nullable=True),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["inspection"], ["inspections.entry"]),
        sa.PrimaryKeyConstraint("entry"),
        sa.UniqueConstraint("inspection"),
    )
    op.create_table(
        "views",
        sa.Column("verdict", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("view", sa.String(length=200), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("taken_s", sa.Float(precision=53), nullable=False),
        sa.Column("exposure_us", sa.Float(precision=53), nullable=False),
        sa.Column("score", sa.Float(precision=53), nullable=True),
        sa.Column("picture", sa.String(length=64), nullable=False),
        sa.Column("mask", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["mask"], ["pictures.hash"]),
        sa.ForeignKeyConstraint(["picture"], ["pictures.hash"]),
        sa.ForeignKeyConstraint(["verdict"], ["verdicts.entry"]),
        sa.PrimaryKeyConstraint("verdict", "place"),
    )
    op.create_index(op.f("ix_views_mask"), "views", ["mask"], unique=False)
    op.create_index(op.f("ix_views_picture"), "views", ["picture"], unique=False)
