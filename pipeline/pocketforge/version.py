"""Pocketforge's own version, from the installed distribution."""

from importlib import metadata


def version() -> str:
    try:
        return metadata.version("pocketforge")
    except metadata.PackageNotFoundError:
        return "not installed (run from a checkout)"
