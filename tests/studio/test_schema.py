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
from llm_installer.studio.store import checker, jobs, opening, schema
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


OLD = {
    "files": "INSERT INTO files (id, name, bytes, sha256, purpose, created_at, owner) VALUES "
    "('file-:n', 'x.csv', 3, 'abc', 'fine-tune', '2026-11-01 10:00:00', '')",
    "jobs": "INSERT INTO jobs (id, created_at, updated_at, model, suffix, worker, error, run, options, result, "
    "predicted, measured, labels, file_id, priority, progress, attempt, step, steps, engine, state, owner, "
    "idempotency_body) VALUES ('job-:n', '2026-11-01 10:00:00', '2026-11-01 10:00:00', 'tiny', '', '', '', '', "
    "'{}', '{}', '{}', '{}', '{}', 'file-:n', 0, 0, 0, 0, 0, 'local', 'queued', '', '')",
    "events": "INSERT INTO events (job_id, at, level, type, data) VALUES ('job-:n', '2026-11-01 10:00:00', 'info', "
    '\'state\', \'{"state": "queued", "attempt": 0, "progress": 0}\')',
    "tokens": "INSERT INTO tokens (sha256, job_id, kind, created_at) VALUES ('hash-:n', 'job-:n', 'job', "
    "'2026-11-01 10:00:00')",
}
"""A row of each table as the first shape had it."""


def test_rows_of_the_first_shape_are_all_there_in_the_newest(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children go with their parents where a table is copied and dropped, unless someone takes care."""
    monkeypatch.setattr(opening, "bring_up_to_date", lambda engine: schema.bring_up_to_date(engine, "0001"))
    old = open_store(database)
    with old.engine.begin() as connection:
        for number in range(3):
            for insert in OLD.values():
                connection.exec_driver_sql(insert.replace(":n", str(number)))
    old.close()
    monkeypatch.undo()
    store = open_store(database)
    with store.reading() as session:
        counts = {table: session.scalar(text(f"SELECT count(*) FROM {table}")) for table in OLD}
    assert counts == dict.fromkeys(OLD, 3)
    with store.reading() as session:
        assert jobs.find(session, "job-1").file_id == "file-1"
    assert checker.check(store, tmp_path / "nothing") == [
        f"The content of file file-{n} is not there" for n in range(3)
    ]
    store.close()
    if "://" not in database:
        assert list(Path(database).parent.glob("*.before-0001.sqlite3")), "it was copied aside first"


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
