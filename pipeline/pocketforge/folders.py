"""Where the cache is: `--cache-dir`, else POCKETFORGE_CACHE_DIR, else the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "POCKETFORGE_CACHE_DIR"
ENVIRONMENTS_VARIABLE = "POCKETFORGE_ENVIRONMENTS_DIR"
PHONES_VARIABLE = "POCKETFORGE_PHONES_DIR"


def cache_dir() -> Path:
    """The root of stored results."""
    return _chosen(VARIABLE) or _user_cache()


def environments_dir() -> Path:
    """Python environments of runtimes that cannot live beside ours. Clearing or moving the cache leaves them be."""
    return _chosen(ENVIRONMENTS_VARIABLE) or _user_cache() / "environments"


def phones_dir() -> Path:
    """What was measured of phones themselves. Like environments, it outlives the cache."""
    return _chosen(PHONES_VARIABLE) or _user_cache() / "phones"


def _chosen(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else None


def _user_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("pocketforge", appauthor=False)
