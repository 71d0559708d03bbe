"""The shape of the database is brought up to date, step by step; a file is copied aside before its shape changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from llm_installer.core.errors import InstallerError
from llm_installer.studio.store import account_tables

assert account_tables.Account.metadata  # whoever opens a database knows all of its tables
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x57D10
"""The number by which servers of one Postgres agree who changes its shape."""


def bring_up_to_date(engine: Engine, to: str = "head") -> None:
    """Make the tables, or change them to the shape that this version knows. Whoever comes second waits and finds it
    done. Raises InstallerError for a database of a newer version."""
    with engine.connect() as connection:
        _foreign_keys(connection, on=False)
        try:
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                _upgrade(connection, to)
        finally:
            _foreign_keys(connection, on=True)


def newest() -> str:
    """The revision that this version makes."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _upgrade(connection: Connection, to: str) -> None:
    config = _config()
    present = MigrationContext.configure(connection).get_current_revision()
    if present == (newest() if to == "head" else to):
        return
    if present is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(present)
        except CommandError:
            raise InstallerError(
                "The studio's database was made by a newer version of LLM Installer; start that one, or name another "
                "database with --database"
            ) from None
        _copy_aside(connection, present)
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _foreign_keys(connection: Connection, on: bool) -> None:
    """SQLite changes a table by copying and dropping it, which would delete its children; within a transaction this
    setting cannot be changed."""
    raw = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection):
        raw.execute(f"PRAGMA foreign_keys={'ON' if on else 'OFF'}")


def _copy_aside(connection: Connection, revision: str) -> None:
    if connection.dialect.name != "sqlite" or not (file := connection.engine.url.database):
        return
    source = sqlite3.connect(file)  # one of its own: that of the transaction must not be used
    aside = sqlite3.connect(Path(file).with_suffix(f".before-{revision}.sqlite3"))
    try:
        source.backup(aside)
    finally:
        aside.close()
        source.close()
