"""The shape of the database: what the steps make is what the program expects, and nobody else's is touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.studio.store import jobs, schema
from llm_installer.studio.store.jobs import NewJob
from llm_installer.studio.store.opening import Store, open_store
from llm_installer.studio.store.tables import Table


def test_the_steps_make_what_the_program_expects(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert context.get_current_revision() == schema.newest()
        assert compare_metadata(context, Table.metadata) == []


def test_what_is_there_stays_and_a_newer_shape_is_refused(opened: Callable[[], Store], database: str) -> None:
    store = opened()
    job, _ = jobs.create(store, NewJob("tiny", None))
    with opened().reading() as session:
        assert jobs.find(session, job.id).model == "tiny"
    with store.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InstallerError, match="newer version"):
        open_store(database)


def test_a_file_is_its_owners_alone_and_has_a_log_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite3"
    store = open_store(file)
    assert file.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with store.reading() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
    store.close()


@pytest.mark.parametrize("address", ["mysql://x/y", "postgresql://host:port/x", "://"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="--database"):
        open_store(address)


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(InstallerError, match="cannot be opened") as refused:
        open_store("postgresql://user:canary@127.0.0.1:1/x")
    assert "canary" not in str(refused.value)
