"""the tracker's further answers: stable branches, carriers, kernels, what is touched, what comes

Revision ID: 0004
Revises: 0003
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

import db.base

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = (
    "stable_branch", "backport_bug", "backport", "touched", "kernel_change", "coming", "carrier", "outlook",
    "known_kernel",
)  # fmt: skip


def text(name: str, *, nullable: bool = False, kind: type[sa.String] = sa.String) -> "sa.Column[Any]":
    return sa.Column(name, kind(), nullable=nullable)


def whole(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.Integer(), nullable=False)


def flag(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.Boolean(), nullable=False)


def document(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.JSON(), nullable=False)


def moment(name: str, *, nullable: bool = True) -> "sa.Column[Any]":
    return sa.Column(name, db.base.UtcDateTime(timezone=True), nullable=nullable)


def make(
    table: str,
    *columns: "sa.Column[Any]",
    goes_with: Sequence[tuple[str, str]] = (),
    once: Sequence[str] = (),
) -> None:
    """A table with an id. ``goes_with``: (column, table) whose rows take this one's with them; indexed, or
    unique where it is in ``once``."""
    op.create_table(
        table,
        whole("id"),
        *(whole(column) for column, _ in goes_with),
        *columns,
        *(
            sa.ForeignKeyConstraint(
                [column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"), ondelete="CASCADE"
            )
            for column, other in goes_with
        ),
        *(sa.UniqueConstraint(column, name=op.f(f"uq_{table}_{column}")) for column in once),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    for column, _ in goes_with:
        if column not in once:
            op.create_index(op.f(f"ix_{table}_{column}"), table, [column])


def upgrade() -> None:
    with op.batch_alter_table("commit") as commit:
        commit.add_column(sa.Column("touches", sa.JSON(none_as_null=True), nullable=True))
    change, tree = ("change_id", "change"), ("tree_id", "tree")
    make(
        "known_kernel",
        *(text(name) for name in ("kind", "line", "version", "upstream")),
        *(whole(name) for name in ("position", "carried", "unknown")),
        moment("date"),
        flag("sample"),
    )
    op.create_index(op.f("ix_known_kernel_line"), "known_kernel", ["line"])
    op.create_table(
        "outlook",
        text("name"),
        moment("made_at", nullable=False),
        document("value"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_outlook")),
    )
    make(
        "carrier",
        whole("position"),
        *(text(name) for name in ("kind", "name", "carries")),
        text("since", nullable=True),
        moment("date"),
        text("why", kind=sa.Text),
        goes_with=[change],
    )
    make(
        "coming",
        *(sa.Column(name, sa.JSON(none_as_null=True), nullable=True) for name in ("first", "release")),
        goes_with=[change],
        once=["change_id"],
    )
    make("kernel_change", text("what"), goes_with=[("kernel_id", "known_kernel"), change])
    make(
        "touched",
        text("source"),
        text("verdict"),
        document("uapi"),
        document("named"),
        goes_with=[change],
        once=["change_id"],
    )
    make(
        "backport",
        text("state"),
        text("version", nullable=True),
        text("rule"),
        sa.Column("score", sa.Double(), nullable=False),
        document("evidence"),
        flag("inherited"),
        goes_with=[change, tree],
    )
    make(
        "backport_bug",
        text("cause", kind=sa.Text),
        text("since", nullable=True),
        text("fixed", nullable=True),
        goes_with=[tree, ("fix_id", "change")],
    )
    make(
        "stable_branch",
        text("base"),
        text("newest", nullable=True),
        moment("newest_date"),
        flag("ended"),
        goes_with=[tree],
        once=["tree_id"],
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    with op.batch_alter_table("commit") as commit:
        commit.drop_column("touches")
