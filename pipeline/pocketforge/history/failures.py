"""What went wrong in a database, in the user's words."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from pocketforge.errors import PocketforgeError, RecipeError, StoreError
from pocketforge.history.places import HINT

# SQLite's names of results, by their beginning.
_SQLITE = {
    "SQLITE_FULL": ("no space left on the disk of {0}", "free some space, or keep it elsewhere with --history"),
    "SQLITE_READONLY": ("cannot write to {0}: it or its folder is read-only", "choose another with --history"),
    "SQLITE_CANTOPEN": (
        "cannot open {0}, or write beside it",
        "to read it, copy it to a folder that can be written to",
    ),
    "SQLITE_PERM": ("cannot open {0}: forbidden", "choose another with --history"),
    "SQLITE_CORRUPT": ("{0} is damaged", "move it away; sqlite3 FILE .recover gets out of it what is left"),
    "SQLITE_IOERR": ("{0} cannot be read or written", "is the disk whole? (network disks cannot have a history)"),
}
# PostgreSQL's SQLSTATE.
_POSTGRESQL = {
    "42501": ("{0} does not let this user: {1}", "ask for the right to create tables in its schema"),
    "25006": ("cannot write to {0}: it is read-only", "choose another with --history"),
    "53100": ("no space left on the disk of {0}", "free some space on the server"),
    "42P01": ("{0} has not all tables of a history: {1}", "were some dropped? export what is left, and begin another"),
}


def explained(error: DBAPIError, words: str, wait_s: float) -> PocketforgeError:
    """A driver's error. words: which history, without its password. wait_s: how long was waited for others."""
    said = (str(error.orig).strip().splitlines() or ["no message"])[0].strip()
    name = getattr(error.orig, "sqlite_errorname", None) or ""
    state = getattr(error.orig, "sqlstate", None) or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or state in ("55P03", "40P01"):
        return StoreError(
            f"another program keeps {words} locked: waited {wait_s:g} s",
            "try again; pocketforge history add REPORT adds a build later",
        )
    if name == "SQLITE_NOTADB":
        return RecipeError(f"{words} is no database: wanted one that pocketforge history made", HINT)
    row = next((row for begin, row in _SQLITE.items() if name.startswith(begin)), _POSTGRESQL.get(state))
    if row is not None:
        return StoreError(row[0].format(words, said), row[1])
    if error.connection_invalidated or not (name or state) or state[:2] in ("08", "28", "3D", "57"):
        return StoreError(f"cannot reach {words}: {said}", "is the server running, and the user known to it?")
    return StoreError(f"{words} refuses: {said}")
