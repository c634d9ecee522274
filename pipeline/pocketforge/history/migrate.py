"""A history's tables brought from an older version's form to this one's, by Alembic. Imported when that is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_SCRIPTS = Path(__file__).parent / "migrations"
# Where revisions are looked for.
VERSIONS = (_SCRIPTS / "versions",)


def known() -> set[str]:
    """The revisions that this Pocketforge has."""
    return {each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions()}


def migrate(connection: Any) -> None:
    """Bring the tables to the last revision, in the transaction that the connection is in. An empty database gets all
    of them."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    # A path's % would begin a reference to another option.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("version_locations", os.pathsep.join(map(str, VERSIONS)).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
