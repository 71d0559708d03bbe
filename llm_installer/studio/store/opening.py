"""A database is opened: SQLite in a file, or Postgres by its address. One way to write, one way to read.

SQLite takes the right to write when a transaction begins (BEGIN IMMEDIATE): one that reads first and writes later would
lose what others wrote between, without an error. A transaction that only reads does not wait for it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.text import shortened, without_password
from llm_installer.studio.store.acting import new_session
from llm_installer.studio.store.schema import bring_up_to_date

BUSY_MS = 60_000
"""Milliseconds that a writer waits for others. SQLite lets none go first, so one of many can wait for long."""
_READS = {"studio_reads": True}


class Store:
    """An open database. Safe to use from several threads; a forked child must open its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shift = timedelta()
        """Added to the time of the database; for tests of clocks that are set."""

    @property
    def postgres(self) -> bool:
        """Whether it is Postgres; else it is SQLite."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that may write; committed at the end, undone by an exception. What it read stays usable."""
        with new_session(bind=self.engine) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads. Keep it short: SQLite's log grows while it is open."""
        with new_session(bind=self.engine.execution_options(**_READS)) as session:
            yield session

    def now(self, session: Session) -> datetime:
        """The time of the database, in UTC."""
        if self.postgres:
            found = session.scalar(text("SELECT clock_timestamp() AT TIME ZONE 'UTC'"))
            assert isinstance(found, datetime)
        else:
            found = datetime.fromisoformat(str(session.scalar(text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"))))
        return found.replace(tzinfo=timezone.utc) + self.shift

    def close(self) -> None:
        """Close its connections."""
        self.engine.dispose()


def open_store(where: str | Path) -> Store:
    """The database in a file of SQLite, or at an address (postgresql://...); made, or brought up to date.

    Raises InstallerError where it cannot be reached, or a newer version of this program made it.
    """
    store = Store(_sqlite(Path(where)) if isinstance(where, Path) or "://" not in where else _by_address(where))
    with ExitStack() as undone:
        undone.callback(store.close)
        try:
            bring_up_to_date(store.engine)
        except OperationalError as error:
            shown = without_password(str(where))
            raise InstallerError(f"The database {shown} cannot be opened ({shortened(str(error.orig))})") from None
        undone.pop_all()
    return store


def _by_address(address: str) -> Engine:
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise UsageError("--database is an address such as postgresql://user@host/name") from None
    if url.get_backend_name() == "sqlite":
        return _sqlite(Path(url.database or ""))
    if url.get_backend_name() != "postgresql":
        raise UsageError(f"--database may be SQLite or Postgres, not {url.get_backend_name()}")
    return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=10, max_overflow=30)


def _sqlite(file: Path) -> Engine:
    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))  # nobody else's business
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": BUSY_MS / 1000}, pool_size=10, max_overflow=30)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # the module begins nothing by itself: _begin does
    for pragma in ("journal_mode=WAL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get("studio_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
