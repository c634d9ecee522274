"""The tables, as this version has them. `migrations/` makes them of an older version's; a test holds the two together.

Their names begin with `pocketforge_`, so that a team may keep them in a database that has others.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

# The last revision of migrations/.
HEAD = "0001"
VERSION_TABLE = "pocketforge_history_version"
METADATA = MetaData()

builds = Table(
    "pocketforge_builds",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("recipe", Text, nullable=False),
    Column("recipe_sha256", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    # Empty where the repository is not known; then commit_s and dirty are null.
    Column("git_commit", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("commit_s", BigInteger),
    Column("dirty", Boolean),
    Column("built_s", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("pocketforge", Text, nullable=False),
    # JSON: library → version.
    Column("versions", Text, nullable=False),
    # The report whole, as JSON, and the SHA-256 of that text: what was changed by hand is not taken for evidence.
    Column("report", Text, nullable=False),
    Column("report_sha256", Text, nullable=False),
    # Once for a commit: whoever adds a report again adds nothing.
    UniqueConstraint("report_sha256", "git_commit", name="pocketforge_builds_once"),
    Index("pocketforge_builds_by_recipe", "recipe", "built_s"),
    sqlite_autoincrement=True,  # no number twice, also of a build that was deleted
)

values = Table(
    "pocketforge_values",
    METADATA,
    Column("build", Integer, ForeignKey(builds.c.id, ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("metric", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("conditions", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("unit", Text, nullable=False),
    Column("low", Double),
    Column("high", Double),
    Column("samples", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("better", Text, nullable=False),
    Column("noisy", Boolean, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("doubt", Text, nullable=False),
    Index("pocketforge_values_by_metric", "metric", "target"),
)

verdicts = Table(
    "pocketforge_verdicts",
    METADATA,
    Column("build", Integer, ForeignKey(builds.c.id, ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("metric", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("value", Double),
    # Null of a budget against a baseline that was not there.
    Column("limit_value", Double),
    Column("severity", Text, nullable=False),
    Column("waived", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
)
