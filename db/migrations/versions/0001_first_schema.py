"""first schema

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

import db.base

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "change",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("author_name", sa.String(), nullable=False),
        sa.Column("author_email", sa.String(), nullable=False),
        sa.Column("first_posted", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("last_posted", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("window", sa.String(), nullable=True),
        sa.Column("first_tag", sa.String(), nullable=True),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("sample", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change")),
        sa.UniqueConstraint("key", name=op.f("uq_change_key")),
        sa.UniqueConstraint("slug", name=op.f("uq_change_slug")),
    )
    with op.batch_alter_table("change", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_change_first_posted"), ["first_posted"], unique=False)
        batch_op.create_index(batch_op.f("ix_change_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_change_title"), ["title"], unique=False)
        batch_op.create_index(batch_op.f("ix_change_window"), ["window"], unique=False)

    op.create_table(
        "commit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("author_name", sa.String(), nullable=False),
        sa.Column("author_email", sa.String(), nullable=False),
        sa.Column("author_date", db.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("commit_date", db.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("trailers", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("diff_hash", sa.String(), nullable=True),
        sa.Column("patch_id", sa.String(), nullable=True),
        sa.Column("reverts", sa.String(), nullable=True),
        sa.Column("upstream", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commit")),
        sa.UniqueConstraint("sha", name=op.f("uq_commit_sha")),
    )
    with op.batch_alter_table("commit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_commit_diff_hash"), ["diff_hash"], unique=False)
        batch_op.create_index(batch_op.f("ix_commit_patch_id"), ["patch_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_commit_title"), ["title"], unique=False)

    op.create_table(
        "environment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environment")),
        sa.UniqueConstraint("digest", name=op.f("uq_environment_digest")),
    )
    op.create_table(
        "kernel",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("window", sa.String(), nullable=True),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("build_id", sa.String(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kernel")),
        sa.UniqueConstraint("release", "origin", name=op.f("uq_kernel_release")),
    )
    with op.batch_alter_table("kernel", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_kernel_version"), ["version"], unique=False)
        batch_op.create_index(batch_op.f("ix_kernel_window"), ["window"], unique=False)

    op.create_table(
        "machine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("generation", sa.String(), nullable=True),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_machine")),
        sa.UniqueConstraint("name", name=op.f("uq_machine_name")),
    )
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("author_name", sa.String(), nullable=False),
        sa.Column("author_email", sa.String(), nullable=False),
        sa.Column("date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("key", name=op.f("uq_series_key")),
    )
    op.create_table(
        "source",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("location", sa.String(), nullable=False),
        sa.Column("sample", sa.Boolean(), nullable=False),
        sa.Column("cursor", sa.JSON(), nullable=False),
        sa.Column("synced_at", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint("kind", "location", name=op.f("uq_source_kind")),
    )
    op.create_table(
        "campaign",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("machine", sa.String(), nullable=False),
        sa.Column("test", sa.String(), nullable=False),
        sa.Column("good", sa.String(), nullable=False),
        sa.Column("bad", sa.String(), nullable=False),
        sa.Column("base_kernel", sa.String(), nullable=True),
        sa.Column("repository", sa.String(), nullable=True),
        sa.Column("started_at", db.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("candidates", sa.JSON(), nullable=False),
        sa.Column("culprit", sa.String(), nullable=True),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("change_id", sa.Integer(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["change_id"], ["change.id"], name=op.f("fk_campaign_change_id_change")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign")),
    )
    op.create_table(
        "match",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("change_id", sa.Integer(), nullable=False),
        sa.Column("commit_id", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["change_id"], ["change.id"], name=op.f("fk_match_change_id_change")),
        sa.ForeignKeyConstraint(["commit_id"], ["commit.id"], name=op.f("fk_match_commit_id_commit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_match")),
        sa.UniqueConstraint("change_id", "commit_id", name=op.f("uq_match_change_id")),
    )
    with op.batch_alter_table("match", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_match_change_id"), ["change_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_match_commit_id"), ["commit_id"], unique=False)

    op.create_table(
        "message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("author_name", sa.String(), nullable=False),
        sa.Column("author_email", sa.String(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("in_reply_to", sa.String(), nullable=True),
        sa.Column("references", sa.JSON(), nullable=False),
        sa.Column("list_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("trailers", sa.JSON(), nullable=False),
        sa.Column("corrupted", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_message_source_id_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
        sa.UniqueConstraint("message_id", name=op.f("uq_message_message_id")),
    )
    with op.batch_alter_table("message", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_message_author_email"), ["author_email"], unique=False)
        batch_op.create_index(batch_op.f("ix_message_date"), ["date"], unique=False)
        batch_op.create_index(batch_op.f("ix_message_in_reply_to"), ["in_reply_to"], unique=False)
        batch_op.create_index(batch_op.f("ix_message_kind"), ["kind"], unique=False)
        batch_op.create_index(batch_op.f("ix_message_source_id"), ["source_id"], unique=False)

    op.create_table(
        "run",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("machine_id", sa.Integer(), nullable=False),
        sa.Column("kernel_id", sa.Integer(), nullable=True),
        sa.Column("environment_id", sa.Integer(), nullable=True),
        sa.Column("suite", sa.String(), nullable=False),
        sa.Column("suite_digest", sa.String(), nullable=False),
        sa.Column("requested", sa.String(), nullable=False),
        sa.Column("started_at", db.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=True),
        sa.Column("seconds", sa.JSON(), nullable=False),
        sa.Column("faults", sa.JSON(), nullable=False),
        sa.Column("folder", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environment.id"], name=op.f("fk_run_environment_id_environment")
        ),
        sa.ForeignKeyConstraint(["kernel_id"], ["kernel.id"], name=op.f("fk_run_kernel_id_kernel")),
        sa.ForeignKeyConstraint(["machine_id"], ["machine.id"], name=op.f("fk_run_machine_id_machine")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_run_kernel_id"), ["kernel_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_machine_id"), ["machine_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_started_at"), ["started_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_verdict"), ["verdict"], unique=False)

    op.create_table(
        "tree",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("head", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_tree_source_id_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tree")),
        sa.UniqueConstraint("name", name=op.f("uq_tree_name")),
    )
    op.create_table(
        "campaign_step",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("seconds", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaign.id"], name=op.f("fk_campaign_step_campaign_id_campaign")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_campaign_step_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_step")),
        sa.UniqueConstraint("campaign_id", "number", name=op.f("uq_campaign_step_campaign_id")),
    )
    with op.batch_alter_table("campaign_step", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_campaign_step_campaign_id"), ["campaign_id"], unique=False)

    op.create_table(
        "finding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("log", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("klass", sa.String(), nullable=False),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("test", sa.String(), nullable=True),
        sa.Column("environment_fault", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_finding_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
    )
    with op.batch_alter_table("finding", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_finding_run_id"), ["run_id"], unique=False)

    op.create_table(
        "landing",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("commit_id", sa.Integer(), nullable=False),
        sa.Column("tree_id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(), nullable=True),
        sa.Column("window", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["commit_id"], ["commit.id"], name=op.f("fk_landing_commit_id_commit")),
        sa.ForeignKeyConstraint(["tree_id"], ["tree.id"], name=op.f("fk_landing_tree_id_tree")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_landing")),
        sa.UniqueConstraint("commit_id", "tree_id", name=op.f("uq_landing_commit_id")),
    )
    with op.batch_alter_table("landing", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_landing_commit_id"), ["commit_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_landing_tree_id"), ["tree_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_landing_window"), ["window"], unique=False)

    op.create_table(
        "patch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("change_id", sa.Integer(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("diff_hash", sa.String(), nullable=True),
        sa.Column("patch_id", sa.String(), nullable=True),
        sa.Column("link_rule", sa.String(), nullable=True),
        sa.Column("link_score", sa.Double(), nullable=True),
        sa.Column("link_evidence", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["change_id"], ["change.id"], name=op.f("fk_patch_change_id_change")),
        sa.ForeignKeyConstraint(["message_id"], ["message.id"], name=op.f("fk_patch_message_id_message")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_patch_series_id_series")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patch")),
        sa.UniqueConstraint("message_id", name=op.f("uq_patch_message_id")),
    )
    with op.batch_alter_table("patch", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_patch_change_id"), ["change_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_patch_diff_hash"), ["diff_hash"], unique=False)
        batch_op.create_index(batch_op.f("ix_patch_patch_id"), ["patch_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_patch_series_id"), ["series_id"], unique=False)

    op.create_table(
        "result",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("test", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_result_run_id_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result")),
        sa.UniqueConstraint("run_id", "test", name=op.f("uq_result_run_id")),
    )
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_result_run_id"), ["run_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_result_test"), ["test"], unique=False)

    op.create_table(
        "tag",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tree_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("commit_id", sa.String(), nullable=False),
        sa.Column("date", db.base.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tree_id"], ["tree.id"], name=op.f("fk_tag_tree_id_tree")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tag")),
        sa.UniqueConstraint("tree_id", "name", name=op.f("uq_tag_tree_id")),
    )
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tag_tree_id"), ["tree_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tag_tree_id"))

    op.drop_table("tag")
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_result_test"))
        batch_op.drop_index(batch_op.f("ix_result_run_id"))

    op.drop_table("result")
    with op.batch_alter_table("patch", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_patch_series_id"))
        batch_op.drop_index(batch_op.f("ix_patch_patch_id"))
        batch_op.drop_index(batch_op.f("ix_patch_diff_hash"))
        batch_op.drop_index(batch_op.f("ix_patch_change_id"))

    op.drop_table("patch")
    with op.batch_alter_table("landing", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_landing_window"))
        batch_op.drop_index(batch_op.f("ix_landing_tree_id"))
        batch_op.drop_index(batch_op.f("ix_landing_commit_id"))

    op.drop_table("landing")
    with op.batch_alter_table("finding", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_finding_run_id"))

    op.drop_table("finding")
    with op.batch_alter_table("campaign_step", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_campaign_step_campaign_id"))

    op.drop_table("campaign_step")
    op.drop_table("tree")
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_run_verdict"))
        batch_op.drop_index(batch_op.f("ix_run_state"))
        batch_op.drop_index(batch_op.f("ix_run_started_at"))
        batch_op.drop_index(batch_op.f("ix_run_machine_id"))
        batch_op.drop_index(batch_op.f("ix_run_kernel_id"))

    op.drop_table("run")
    with op.batch_alter_table("message", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_message_source_id"))
        batch_op.drop_index(batch_op.f("ix_message_kind"))
        batch_op.drop_index(batch_op.f("ix_message_in_reply_to"))
        batch_op.drop_index(batch_op.f("ix_message_date"))
        batch_op.drop_index(batch_op.f("ix_message_author_email"))

    op.drop_table("message")
    with op.batch_alter_table("match", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_match_commit_id"))
        batch_op.drop_index(batch_op.f("ix_match_change_id"))

    op.drop_table("match")
    op.drop_table("campaign")
    op.drop_table("source")
    op.drop_table("series")
    op.drop_table("machine")
    with op.batch_alter_table("kernel", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_kernel_window"))
        batch_op.drop_index(batch_op.f("ix_kernel_version"))

    op.drop_table("kernel")
    op.drop_table("environment")
    with op.batch_alter_table("commit", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_commit_title"))
        batch_op.drop_index(batch_op.f("ix_commit_patch_id"))
        batch_op.drop_index(batch_op.f("ix_commit_diff_hash"))

    op.drop_table("commit")
    with op.batch_alter_table("change", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_change_window"))
        batch_op.drop_index(batch_op.f("ix_change_title"))
        batch_op.drop_index(batch_op.f("ix_change_state"))
        batch_op.drop_index(batch_op.f("ix_change_first_posted"))

    op.drop_table("change")
