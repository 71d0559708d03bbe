"""The tables. Times are UTC with microseconds, and come back with their time zone from every database."""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from llm_installer.studio.plain import Json
from llm_installer.studio.states import QUEUED, status_of

NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""How constraints are called, so that later steps can change them by name."""


class Utc(TypeDecorator[datetime]):
    """A time in UTC; databases keep it without a zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(timezone.utc).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=timezone.utc) if value else None


NUMBER = BigInteger().with_variant(Integer(), "sqlite")
"""A row number: only INTEGER counts up by itself in SQLite."""


class Table(DeclarativeBase):
    """Base of the tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {datetime: Utc(), Json: JSON(), str: Text(), int: BigInteger()}  # noqa: RUF012


class File(Table):
    """Something that was uploaded: a dataset. Its content is files/ID of the data folder."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """file-..."""
    name: Mapped[str]
    """As it was uploaded, without folders."""
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    purpose: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]
    owner: Mapped[str] = mapped_column(String(64), default="")


class Job(Table):
    """One training, from what was asked to what came of it."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_waiting", "state", "priority", "created_at"),
        UniqueConstraint("owner", "idempotency_key", name="uq_jobs_owner_key"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    model: Mapped[str]
    """The name of an installed model, or a hub id."""
    file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id"))
    options: Mapped[Json] = mapped_column(default=dict)
    """The words of `train` without --, such as {"epochs": 3}."""
    suffix: Mapped[str] = mapped_column(default="")
    priority: Mapped[int] = mapped_column(Integer, default=0)
    """The highest goes first."""
    engine: Mapped[str] = mapped_column(String(16), default="local")
    """Who may take it: local, worker or colab."""
    made_for: Mapped[str] = mapped_column(String(16), default="")
    """Who may take it when it is queued once more, for a notebook can have taken it meanwhile."""
    state: Mapped[str] = mapped_column(String(16), default=QUEUED)
    progress: Mapped[int] = mapped_column(Integer, default=0)
    """0 to 100; never falls."""
    step: Mapped[int] = mapped_column(default=0)
    steps: Mapped[int] = mapped_column(default=0)
    """0 where it is not known, or the run has no end."""
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """Counts its claims. Whoever reports says it; what comes from an older one is refused."""
    heard: Mapped[int] = mapped_column(default=0)
    """Events of this attempt that are here; those that a worker sends once more are left out."""
    worker: Mapped[str] = mapped_column(default="")
    lease_until: Mapped[datetime | None]
    """In the time of the database; the watch (store/leases.py) decides that it is over."""
    error: Mapped[str] = mapped_column(default="")
    run: Mapped[str] = mapped_column(default="")
    """Id of the run in the model directory."""
    result: Mapped[Json] = mapped_column(default=dict)
    """{"files": [{"path", "sha256", "bytes"}], "base_loss", "best_loss", ...} once it is completed."""
    predicted: Mapped[Json] = mapped_column(default=dict)
    measured: Mapped[Json] = mapped_column(default=dict)
    owner: Mapped[str] = mapped_column(String(64), default="")
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    idempotency_body: Mapped[str] = mapped_column(String(64), default="")
    """SHA-256 of what was asked with the key."""
    seed: Mapped[int | None]
    labels: Mapped[Json] = mapped_column(default=dict)
    """What whoever asked wants to find on it again; `metadata` of OpenAI's API."""

    @property
    def status(self) -> str:
        """pending, training, completed or failed."""
        return status_of(self.state)


class Event(Table):
    """Something that happened to a job. Its row number is the id in a stream of events, and rises within a job."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_job", "job_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    level: Mapped[str] = mapped_column(String(8), default="info")
    """info, warn or error."""
    type: Mapped[str] = mapped_column(String(16))
    """message, metrics, state or sample."""
    data: Mapped[Json] = mapped_column(default=dict)


class Token(Table):
    """Lets its holder do something with one job; only its hash is kept."""

    __tablename__ = "tokens"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    """pairing: may be changed for a job token once; job: reports on the job, and reads its data."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class Checkpoint(Table):
    """The newest checkpoint that a worker elsewhere sent of a job's run: from it another worker may resume."""

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime]
    run: Mapped[str]
    """Id of the run."""
    step: Mapped[int]
    files: Mapped[Json]
    """{"files": [{"path", "sha256", "bytes"}]}: the files of the run's folder that a resume needs."""


class Hook(Table):
    """An address that is told of what becomes of jobs. What signs its messages is not kept (webhooks/signing.py)."""

    __tablename__ = "hooks"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    """hook_..."""
    url: Mapped[str]
    states: Mapped[Json]
    """{"states": [...]}: of which states it is told; all where the list is empty."""
    owner: Mapped[str] = mapped_column(String(64), default="")
    key: Mapped[str] = mapped_column(String(16))
    """Which server's key signs for it, and which server sends."""
    created_at: Mapped[datetime]
    failures: Mapped[int] = mapped_column(Integer, default=0)
    """Tries in a row that failed."""
    off: Mapped[str] = mapped_column(default="")
    """Why nothing is sent any more, as a sentence; empty while it is on."""


class Delivery(Table):
    """A message that a hook has not accepted yet. It is gone once it has."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("ix_deliveries_order", "hook_id", "job_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True, autoincrement=True)
    hook_id: Mapped[str] = mapped_column(ForeignKey("hooks.id", ondelete="CASCADE"))
    job_id: Mapped[str] = mapped_column(String(36))
    """Not a key of a job: that a job was deleted is no reason to say less of it."""
    message: Mapped[str] = mapped_column(String(40))
    """The same for every try: by it a receiver knows what it has had."""
    body: Mapped[str]
    tries: Mapped[int] = mapped_column(Integer, default=0)
    due: Mapped[datetime]
