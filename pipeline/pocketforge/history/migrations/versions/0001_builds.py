"""Builds with their reports, values and verdicts.

Tables are written out, not taken from tables.py: that is what they are today, and this what they were then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "pocketforge_builds",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("recipe", "recipe_sha256", "verdict")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("git_commit", "branch")),
        sa.Column("commit_s", sa.BigInteger),
        sa.Column("dirty", sa.Boolean),
        sa.Column("built_s", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("host", "pocketforge", "versions")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("report", "report_sha256")),
        sa.UniqueConstraint("report_sha256", "git_commit", name="pocketforge_builds_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("pocketforge_builds_by_recipe", "pocketforge_builds", ["recipe", "built_s"])
    op.create_table(
        "pocketforge_values",
        *_of_a_build(),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("metric", "target", "device", "via", "conditions")),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("better", sa.Text, nullable=False),
        sa.Column("noisy", sa.Boolean, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("doubt", sa.Text, nullable=False),
    )
    op.create_index("pocketforge_values_by_metric", "pocketforge_values", ["metric", "target"])
    op.create_table(
        "pocketforge_verdicts",
        *_of_a_build(),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("metric", "target", "device", "verdict")),
        sa.Column("value", sa.Double),
        sa.Column("limit_value", sa.Double),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("waived", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )


def _of_a_build() -> tuple[sa.Column, sa.Column]:
    build = sa.ForeignKey("pocketforge_builds.id", ondelete="CASCADE")
    return (
        sa.Column("build", sa.Integer, build, primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    )
