"""A history's database, opened: SQLite in one file (WAL) or PostgreSQL. Its tables are this version's when it is open.

Whoever writes in SQLite waits for the others (busy timeout) and has the whole file (BEGIN IMMEDIATE); a build is one
transaction, so that a kill leaves all of it or nothing. A new file is made beside its place and linked there, whole.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from pocketforge.errors import RecipeError
from pocketforge.files import explain_os_error, refuse_special
from pocketforge.folders import history_file
from pocketforge.history.failures import explained
from pocketforge.history.places import HINT, Place
from pocketforge.history.tables import HEAD, METADATA, VERSION_TABLE
from pocketforge.version import version

# How long to wait for others that write, and for a server to answer.
WAIT_S = 30.0
_CONNECT_S = 10
_WRITES = "pocketforge_writes"
# Of the lock under which one of several clients migrates a server's tables.
_MIGRATION_LOCK = 0x706F636B


class Database:
    """One that is open, with the tables of this version."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self.place = place
        self._engine = engine

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """A connection that sees one state. Raises RecipeError, StoreError."""
        with _explained(self.place), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """A connection whose work is done whole when this ends without an error. Raises RecipeError, StoreError."""
        with _explained(self.place), _writer(self._engine) as connection:
            yield connection

    def server(self) -> str:
        """Its kind and version, in words."""
        with self.reading() as connection:
            if self.place.file is not None:
                return f"SQLite {connection.execute(text('select sqlite_version()')).scalar_one()}"
            return f"PostgreSQL {connection.execute(text('show server_version')).scalar_one()}"


def open_database(place: Place, *, create: bool) -> Database:
    """The history of a place. create: make one where there is none.

    Raises RecipeError for what is no history or one of a later Pocketforge, and where there is none and none is to be
    made; StoreError for one that others keep locked and that cannot be read or written.
    """
    if place.file is not None:
        _check_file(place.file, create=create)
    with _explained(place):
        engine = _engine(place)
        _bring_up_to_date(engine, place, create=create)
        if place.file is not None:
            _write_ahead(engine)
    return Database(place, engine)


def _check_file(file: Path, *, create: bool) -> None:
    try:
        refuse_special(file)
        if file.is_dir():
            raise RecipeError(f"{file} is a folder: wanted the file of a history", HINT)
        if file.exists():
            return
        if not create:
            raise RecipeError(f"there is no history at {file}", "pocketforge history add REPORT makes one")
        if file == history_file():
            file.parent.mkdir(parents=True, exist_ok=True)
        if not file.parent.is_dir():
            raise RecipeError(f"there is no folder {file.parent} to make a history in", HINT)
        _make(file)
    except OSError as error:
        raise explain_os_error(error, file, "--history") from error


def _make(file: Path) -> None:
    """A new one, in its place when it is whole; another process may be as quick."""
    draft = file.with_name(f".{uuid.uuid4().hex}.part")
    place = Place(draft, "", str(file))
    try:
        with _explained(place):
            engine = _engine(place)
            _bring_up_to_date(engine, place, create=True)
            _write_ahead(engine)
        try:
            os.link(draft, file)
        except FileExistsError:
            pass
        except OSError:  # a disk that knows no second name
            if not file.exists():
                os.rename(draft, file)
    finally:
        for leftover in (draft, *(draft.with_name(f"{draft.name}{end}") for end in ("-wal", "-shm", "-journal"))):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _engine(place: Place) -> Engine:
    # A command asks once or twice, so that connections are not kept.
    if place.file is None:
        try:
            url = make_url(place.url).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError):  # its words would have the password
            raise RecipeError(f"{place.words} is no URL of a PostgreSQL database", HINT) from None
        # The user's own options (a search_path) stay.
        options = f"{url.query.get('options', '')} -c lock_timeout={round(WAIT_S * 1000)}".strip()
        how: dict[str, Any] = {"application_name": "pocketforge", "connect_timeout": _CONNECT_S}
        how = {name: value for name, value in how.items() if name not in url.query} | {"options": options}
        url = url.difference_update_query(["options"])
        return create_engine(url, poolclass=NullPool, connect_args=how)
    url = make_url("sqlite+pysqlite://").set(database=str(place.file))
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": WAIT_S})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so (_begin)
    connection.execute("PRAGMA foreign_keys=ON")


def _write_ahead(engine: Engine) -> None:
    """Readers wait for nobody. The mode is the file's: set again, it would need the file for itself."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise DBAPIError.instance("PRAGMA journal_mode", None, error, sqlite3.Error) from error
    finally:
        connection.close()


def _begin(connection: Any) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _writer(engine: Engine) -> Iterator[Any]:
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise explained(error, place.words, WAIT_S) from error
    except ArgumentError:  # of a URL's parameters, which are looked at when it connects
        raise RecipeError(f"{place.words} is no URL of a PostgreSQL database", HINT) from None


def _bring_up_to_date(engine: Engine, place: Place, *, create: bool) -> None:
    with engine.begin() as connection:
        found = _version(connection, place)
    if found == HEAD:
        return
    from pocketforge.history.migrate import known, migrate

    if found is None and not create:
        raise RecipeError(f"there is no history in {place.words}", "pocketforge history add REPORT makes one")
    if found is not None and found not in known():
        raise RecipeError(
            f"the history {place.words} is of a later Pocketforge: its tables are of revision {found}, "
            f"this one ({version()}) knows {HEAD} at most",
            "use that Pocketforge, or another history with --history; nothing in it was changed",
        )
    with _writer(engine) as connection:
        if place.file is None:
            connection.execute(text(f"select pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        if _version(connection, place) != HEAD:  # another may have done it meanwhile
            migrate(connection)


def _version(connection: Any, place: Place) -> str | None:
    """The revision of the tables; None where there are none. Raises RecipeError where others stand in their place."""
    there = inspect(connection)
    if there.has_table(VERSION_TABLE):
        revision: str | None = connection.execute(text(f"select version_num from {VERSION_TABLE}")).scalar()  # noqa: S608
        return revision
    tables = set(there.get_table_names())
    # A server's database may have others; a file is a history or none.
    strange = tables if place.file is not None else tables & set(METADATA.tables)
    if strange:
        raise RecipeError(f"{place.words} is another program's database: it has a table {min(strange)}", HINT)
    return None
