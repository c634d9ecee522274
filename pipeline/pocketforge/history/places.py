"""Where a history is: what `--history` and POCKETFORGE_HISTORY may say."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pocketforge.errors import RecipeError
from pocketforge.folders import HISTORY_VARIABLE, history_file

HINT = "--history (or POCKETFORGE_HISTORY) takes on, off, a file, or postgresql://USER@HOST/DATABASE"
# One @, behind the user. A password with a bare @ / ? # would end there, and its rest be shown as a host.
_SERVER = re.compile(
    r"(?:(?P<user>[^:@/?#]*)(?::[^@/?#]*)?@)?(?P<where>(?:\[[^][@/?#]*\]|[^][:@/?#]*)(?::[0-9]*)?(?:/[^@?#]*)?)(?:\?[^@#]*)?"
)
_NO_PATH = re.compile(r"(sqlite|postgres|postgresql):")


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
        if _NO_PATH.match(said):  # a slash is missing; the rest may hold a password
            raise RecipeError("a URL of a history has two slashes behind its colon", HINT)
        return _file(Path(said))
    if scheme == "sqlite":
        # As SQLAlchemy writes it: three slashes and a path, four and an absolute one.
        if not rest.startswith("/") or rest == "/":
            raise RecipeError("of SQLite, wanted sqlite:///FILE", HINT)
        return _file(Path(rest[1:]))
    if scheme in ("postgresql", "postgres"):
        return _server(rest)
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
    try:
        path = Path(os.path.abspath(path.expanduser()))
    except RuntimeError:
        raise RecipeError(f"there is no user {path.parts[0]}", HINT) from None
    return Place(path, "", str(path))


def _server(rest: str) -> Place:
    """USER:PASSWORD@HOST/DATABASE: the password stands behind the user, and may stand among the parameters."""
    found = _SERVER.fullmatch(rest)
    if found is None:
        raise RecipeError(
            "this is no URL of a PostgreSQL database (it is not shown: it may hold a password)",
            f"{HINT}; in a user or password each of @ : / ? # [ ] is written as %40 %3A %2F %3F %23 %5B %5D",
        )
    user = found["user"]
    words = f"{user}@{found['where']}" if user is not None else found["where"]
    return Place(None, f"postgresql://{rest}", f"postgresql://{words}")
