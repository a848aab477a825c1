"""The database of the review store: its address, its tables, and transactions that survive a power cut."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError as BadUrl
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from napari_leukocls.errors import ArgumentError, ReviewError
from napari_leukocls.io.atomic import make_folder
from napari_leukocls.paths import user_data_dir
from napari_leukocls.review.schema import HEAD

#: How long a writer waits for another one, seconds.
WAIT_S = 15.0
#: Environment variable: another store than the one in the user's data folder.
VARIABLE = "LEUKOCLS_REVIEW_STORE"
#: Number of the lock on a PostgreSQL database; any number, but the same on all computers.
_WRITERS = 7_305_221
_MIGRATIONS = Path(__file__).parent / "migrations"

_opening = threading.Lock()


def store_url(url: str | Path | None = None) -> URL:
    """The URL of a review store: the user's own SQLite file, another file, or a PostgreSQL database.

    Parameters
    ----------
    url : str or Path, optional
        ``sqlite:///path``, ``postgresql://user@host/database``, or the path of a SQLite file. By default
        the value of ``LEUKOCLS_REVIEW_STORE``, else ``review.sqlite3`` in the user's data folder.

    Returns
    -------
    URL

    Raises
    ------
    ArgumentError
        If it is not such a URL.
    """
    url = url or os.environ.get(VARIABLE) or None
    if url is None:
        return URL.create("sqlite", database=str(user_data_dir() / "review.sqlite3"))
    text = str(url)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        parsed = make_url(text)
    except (BadUrl, ValueError) as error:
        raise ArgumentError(
            "the review store's URL cannot be read; give sqlite:///FILE or postgresql://USER@HOST/DATABASE."
        ) from error
    kind = parsed.get_backend_name()
    if kind == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise ArgumentError(
            f"a review store cannot be kept in {kind}; give sqlite:///FILE or postgresql://..."
        )
    return parsed


def without_password(url: URL) -> str:
    """The URL without its password, for messages.

    Parameters
    ----------
    url : URL

    Returns
    -------
    str
    """
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(True)


class Database:
    """The connections of an open review store.

    Parameters
    ----------
    url : URL
        Of `store_url`.

    Raises
    ------
    ReviewError
        If it cannot be opened, or was made by a newer version.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.engine = _engine(url)
        try:
            with _opening:
                self._migrate()
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def sqlite_file(self) -> Path | None:
        """The SQLite file; None for a server or a store in memory."""
        if self.url.get_backend_name() != "sqlite" or self.url.database in (None, "", ":memory:"):
            return None
        return Path(str(self.url.database))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection for reading; all its queries show the same moment.

        Yields
        ------
        Connection

        Raises
        ------
        ReviewError
            If the database cannot be read.
        """
        with self._errors_in_words(), self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction for writing; there is one at a time, and it is on the disk when the block has ended.

        Yields
        ------
        Connection

        Raises
        ------
        ReviewError
            If the database cannot be written to; nothing of the block is saved then.
        """
        with self._errors_in_words(), self.engine.connect() as connection:
            connection = connection.execution_options(leukocls_write=True)
            with connection.begin():
                self._wait_for_writers(connection)
                yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        """Turn an error of the database into a `ReviewError` of one line."""
        try:
            yield
        except DBAPIError as error:
            raise _review_error(self.url, error.orig or error) from error
        except SQLAlchemyError as error:
            raise _review_error(self.url, error) from error

    def _wait_for_writers(self, connection: Connection) -> None:
        """Let one writer at a time write to PostgreSQL, as SQLite does by itself: the log is one chain."""
        if self.engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_WRITERS})"))

    def _migrate(self) -> None:
        """Create the tables, or update them; several computers may try at the same time."""
        with self._errors_in_words():
            with self.engine.connect() as connection, connection.begin():
                revision = _revision(connection)
            if revision == HEAD:
                return
            with self.engine.connect() as connection:
                connection = connection.execution_options(leukocls_write=True)
                with connection.begin():
                    self._wait_for_writers(connection)
                    revision = _revision(connection)
                    if revision is None:
                        self._refuse_foreign(connection)
                    if revision != HEAD:
                        self._upgrade(connection)

    def _refuse_foreign(self, connection: Connection) -> None:
        """Refuse to create tables in the database of another program."""
        others = sa.inspect(connection).get_table_names()
        if others:
            raise ReviewError(
                f"'{without_password(self.url)}' is the database of another program (it has a table '{others[0]}'); "
                "name a new file, or an empty database."
            )

    def _upgrade(self, connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ReviewError(
                f"the review store '{without_password(self.url)}' was made by a newer version; update napari-leukocls."
            ) from error


def _revision(connection: Connection) -> str | None:
    """Revision of the tables; None for a new database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    try:
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": int(WAIT_S)})
    except (ImportError, NoSuchModuleError) as error:
        raise ReviewError(
            "a review store in PostgreSQL needs psycopg: pip install 'napari-leukocls[postgres]'."
        ) from error

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # Some servers confirm a transaction before it is on the disk; a correction must be on the disk.
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit TO on")
            cursor.execute(f"SET lock_timeout TO '{int(WAIT_S)}s'")
        connection.commit()

    return engine


def _sqlite(url: URL) -> Engine:
    in_memory = url.database in (None, "", ":memory:")
    if not in_memory:
        make_folder(Path(str(url.database)).parent)
    engine = sa.create_engine(url, connect_args={"timeout": WAIT_S, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # `_begin` below begins transactions; the driver would begin them too late.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("leukocls_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _review_error(url: URL, error: BaseException) -> ReviewError:
    """An error of the database in words, with advice."""
    detail = " ".join(str(error).split())[:200]
    advice = (
        ("disk is full", "the disk is full; free some space and try again"),
        ("database is locked", "another program uses it; close that program and try again"),
        ("not a database", "it is damaged or not a review store; restore a copy, or name another file"),
        ("malformed", "it is damaged; restore a copy, or name another file"),
        ("readonly", "it cannot be written to; ask for permission or name another file"),
        ("unable to open", "it cannot be opened; check its folder and your permissions"),
        ("never changed or deleted", "its history can only be added to, not changed"),
        ("lock timeout", "another computer is writing to it; try again in a moment"),
        ("connection", "the server does not answer; check that it runs and that the URL is right"),
    )
    for sign, words in advice:
        if sign in detail.lower():
            return ReviewError(f"the review store '{without_password(url)}': {words} ({detail}).")
    return ReviewError(
        f"the review store '{without_password(url)}' failed ({detail}); nothing of this step was saved."
    )
