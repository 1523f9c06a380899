"""How often a picture was taken again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; of earlier pictures it is not known."""
    op.add_column("views", sa.Column("retries", sa.Integer(), nullable=True))
