"""How many of a motion's commands the arm got in time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add it; of earlier motions it is not known."""
    op.add_column("endings", sa.Column("in_time", sa.JSON(none_as_null=True), nullable=True))
