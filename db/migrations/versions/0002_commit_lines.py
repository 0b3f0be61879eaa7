"""changed lines of a commit, as checksums, so that similar diffs can be found without the clone

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("commit") as table:
        table.add_column(sa.Column("lines", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    with op.batch_alter_table("commit") as table:
        table.drop_column("lines")
