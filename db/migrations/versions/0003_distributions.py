"""what distributions ship: their kernels, and the stable titles that only their changelogs tell

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

import db.base

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upload",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("package", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("suite", sa.String(), nullable=False),
        sa.Column("date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("upstream", sa.String(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_upload_source_id_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
        sa.UniqueConstraint("source_id", "package", "version", name=op.f("uq_upload_source_id")),
    )
    op.create_index(op.f("ix_upload_source_id"), "upload", ["source_id"])
    op.create_table(
        "listed_title",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("upload_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("cves", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["upload.id"], name=op.f("fk_listed_title_upload_id_upload")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_listed_title")),
    )
    for column in ("upload_id", "version", "title"):
        op.create_index(op.f(f"ix_listed_title_{column}"), "listed_title", [column])


def downgrade() -> None:
    op.drop_table("listed_title")
    op.drop_table("upload")
