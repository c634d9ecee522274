"""Where a history is: what `--history` and POCKETFORGE_HISTORY may say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pocketforge.errors import RecipeError
from pocketforge.folders import HISTORY_VARIABLE, history_file

HINT = "--history (or POCKETFORGE_HISTORY) takes on, off, a file, or postgresql://USER@HOST/DATABASE"


@dataclass(frozen=True, slots=True)
class Place:
    """One history.

    Attributes:
        file: Of SQLite's; None of a server's.
        url: Of PostgreSQL's, as the user wrote it; empty of a file. It may hold a password: `words` does not.
        words: To show.
    """

    file: Path | None
    url: str
    words: str


def place_of(said: str) -> Place | None:
    """The place that a word, a path or a URL means; None for "off". Raises RecipeError."""
    if said in ("on", "off"):
        return _file(history_file()) if said == "on" else None
    scheme, mark, rest = said.partition("://")
    if not mark:
        return _file(Path(said))
    if scheme == "sqlite":
        # As SQLAlchemy writes it: three slashes and a path, four and an absolute one.
        if not rest.startswith("/") or rest == "/":
            raise RecipeError(f"wanted sqlite:///FILE, found {said!r}", HINT)
        return _file(Path(rest[1:]))
    if scheme in ("postgresql", "postgres"):
        return Place(None, f"postgresql://{rest}", f"postgresql://{_without_password(rest)}")
    raise RecipeError(f"no history is kept by {scheme!r}: wanted SQLite or PostgreSQL", HINT)


def asked(option: str | None) -> Place | None:
    """What the option says, else POCKETFORGE_HISTORY; None where neither asks for one. Raises RecipeError."""
    said = option if option is not None else os.environ.get(HISTORY_VARIABLE, "")
    return place_of(said) if said else None


def asked_or_default(option: str | None) -> Place:
    """The same for commands whose work it is: where nobody says one it is the user's own file. Raises RecipeError."""
    said = option if option is not None else os.environ.get(HISTORY_VARIABLE, "")
    place = place_of(said or "on")
    if place is None:
        raise RecipeError("the history is off: there is none to look at", HINT)
    return place


def _file(path: Path) -> Place:
    path = Path(os.path.abspath(path.expanduser()))
    return Place(path, "", str(path))


def _without_password(rest: str) -> str:
    """USER@HOST/DATABASE: passwords stand behind the user, and may stand among the parameters."""
    parts = urlsplit(f"//{rest}")
    user, at, host = parts.netloc.rpartition("@")
    return f"{user.partition(':')[0]}{at}{host}{parts.path}"
