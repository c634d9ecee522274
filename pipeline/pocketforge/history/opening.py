"""The door to a history: SQLAlchemy and what it needs are imported behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocketforge.errors import ToolMissing
from pocketforge.history.places import Place
from pocketforge.version import install

if TYPE_CHECKING:
    from pocketforge.history.keeper import History

_PACKAGES = ("sqlalchemy", "alembic", "mako", "psycopg", "ruptures", "scipy")


def open_history(place: Place, *, create: bool = False) -> History:
    """The builds of a place. create: make a history where there is none.

    Raises ToolMissing without the extra `history`, RecipeError for what is no history or a later Pocketforge's,
    StoreError for one that is locked or cannot be read or written.
    """
    try:
        from pocketforge.history.database import open_database
        from pocketforge.history.keeper import History

        return History(open_database(place, create=create))
    except ModuleNotFoundError as error:
        raise without(error) from None


def without(error: ModuleNotFoundError) -> Exception:
    """The error of a package that is not installed: which, and how to get it. Another module's stays what it is."""
    name = (error.name or "").partition(".")[0]
    if name not in _PACKAGES:
        return error
    return ToolMissing(f"a history needs the package {name}, which is not installed", install("history"))
