"""what surrounds the kernel: CVE records, firmware, user space, the out-of-tree twin

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

import db.base

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cve",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("published", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("severity", sa.String(), nullable=True),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("pairs", sa.JSON(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("affected_by_default", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_cve_source_id_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cve")),
        sa.UniqueConstraint("source_id", "name", name=op.f("uq_cve_source_id")),
    )
    op.create_index(op.f("ix_cve_source_id"), "cve", ["source_id"])
    op.create_index(op.f("ix_cve_name"), "cve", ["name"])
    op.create_table(
        "cve_check",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("cve_id", sa.Integer(), nullable=False),
        sa.Column("change_id", sa.Integer(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("says", sa.String(), nullable=False),
        sa.Column("found", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["change_id"], ["change.id"], name=op.f("fk_cve_check_change_id_change"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["cve_id"], ["cve.id"], name=op.f("fk_cve_check_cve_id_cve"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cve_check")),
    )
    op.create_index(op.f("ix_cve_check_cve_id"), "cve_check", ["cve_id"])
    op.create_index(op.f("ix_cve_check_change_id"), "cve_check", ["change_id"])
    op.create_table(
        "firmware_step",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tree_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("file", sa.String(), nullable=True),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column("tag", sa.String(), nullable=True),
        sa.Column("tag_date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("commit_id", sa.String(), nullable=False),
        sa.Column("date", db.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tree_id"], ["tree.id"], name=op.f("fk_firmware_step_tree_id_tree"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firmware_step")),
    )
    op.create_index(op.f("ix_firmware_step_tree_id"), "firmware_step", ["tree_id"])
    op.create_index(op.f("ix_firmware_step_path"), "firmware_step", ["path"])
    op.create_table(
        "driver_release",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tree_id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("commit_id", sa.String(), nullable=False),
        sa.Column("date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("driver_version", sa.String(), nullable=True),
        sa.Column("firmware", sa.JSON(), nullable=False),
        sa.Column("loads", sa.JSON(), nullable=False),
        sa.Column("uapi", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tree_id"], ["tree.id"], name=op.f("fk_driver_release_tree_id_tree"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_driver_release")),
        sa.UniqueConstraint("tree_id", "tag", name=op.f("uq_driver_release_tree_id")),
    )
    op.create_index(op.f("ix_driver_release_tree_id"), "driver_release", ["tree_id"])
    op.create_table(
        "firmware_need",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=True),
        sa.Column("generations", sa.JSON(), nullable=False),
        sa.Column("first_kernel", sa.String(), nullable=True),
        sa.Column("first_kernel_date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("last_kernel", sa.String(), nullable=True),
        sa.Column("file", sa.String(), nullable=True),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column("since", sa.String(), nullable=True),
        sa.Column("since_date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("sample", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firmware_need")),
    )
    op.create_table(
        "userspace_release",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tree_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("commit_id", sa.String(), nullable=False),
        sa.Column("date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column("driver_version", sa.String(), nullable=True),
        sa.Column("uapi", sa.JSON(), nullable=False),
        sa.Column("firmware", sa.JSON(), nullable=False),
        sa.Column("pins", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tree_id"], ["tree.id"], name=op.f("fk_userspace_release_tree_id_tree"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_userspace_release")),
        sa.UniqueConstraint("tree_id", "kind", "name", name=op.f("uq_userspace_release_tree_id")),
    )
    op.create_index(op.f("ix_userspace_release_tree_id"), "userspace_release", ["tree_id"])
    op.create_table(
        "userspace_fit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kernel", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("lacks", sa.JSON(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["release_id"],
            ["userspace_release.id"],
            name=op.f("fk_userspace_fit_release_id_userspace_release"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_userspace_fit")),
    )
    op.create_index(op.f("ix_userspace_fit_release_id"), "userspace_fit", ["release_id"])
    op.create_table(
        "twin_pair",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tree_id", sa.Integer(), nullable=False),
        sa.Column("commit_id", sa.Integer(), nullable=False),
        sa.Column("change_id", sa.Integer(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("upstream", sa.String(), nullable=True),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("first", sa.String(), nullable=True),
        sa.Column("days", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["change_id"], ["change.id"], name=op.f("fk_twin_pair_change_id_change"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["commit_id"], ["commit.id"], name=op.f("fk_twin_pair_commit_id_commit")),
        sa.ForeignKeyConstraint(
            ["tree_id"], ["tree.id"], name=op.f("fk_twin_pair_tree_id_tree"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_twin_pair")),
    )
    op.create_index(op.f("ix_twin_pair_tree_id"), "twin_pair", ["tree_id"])
    op.create_index(op.f("ix_twin_pair_commit_id"), "twin_pair", ["commit_id"])
    op.create_index(op.f("ix_twin_pair_change_id"), "twin_pair", ["change_id"])


def downgrade() -> None:
    for table in (
        "twin_pair",
        "userspace_fit",
        "userspace_release",
        "firmware_need",
        "driver_release",
        "firmware_step",
        "cve_check",
        "cve",
    ):
        op.drop_table(table)
