"""Candidates of models and who released them; the hash of an inspection's marks."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add them; marks of earlier inspections stay outside the chain."""
    op.add_column("endings", sa.Column("marks", sa.String(64), nullable=True))
    op.create_table(
        "candidates",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_hash", sa.String(64), nullable=False),
        sa.Column("parent_hash", sa.String(64), nullable=False),
        sa.Column("challenge", sa.Integer(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["challenge"], ["releases.entry"]),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["model_hash"], ["contents.hash"]),
        sa.ForeignKeyConstraint(["parent_hash"], ["contents.hash"]),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index(op.f("ix_candidates_model_hash"), "candidates", ["model_hash"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("candidate", sa.Integer(), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["candidate"], ["candidates.entry"]),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["passed"], ["releases.entry"]),
        sa.PrimaryKeyConstraint("entry"),
        sa.UniqueConstraint("candidate"),
    )
