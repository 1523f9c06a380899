"""How often a picture was taken again; challenges of the line."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add them; of earlier pictures the retries are not known."""
    op.add_column("views", sa.Column("retries", sa.Integer(), nullable=True))
    op.create_table(
        "releases",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("wrong", sa.JSON(), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"]),
        sa.ForeignKeyConstraint(["run"], ["runs.entry"]),
        sa.PrimaryKeyConstraint("entry"),
    )
    op.create_index(op.f("ix_releases_run"), "releases", ["run"], unique=False)
