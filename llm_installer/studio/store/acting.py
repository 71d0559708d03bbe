"""For whom the database is asked: rows of others are not there, whichever query looks for them.

The gate (access/gate.py) says for whom; what runs without a request, such as the watch over leases, sees everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, sessionmaker, with_loader_criteria

from llm_installer.studio.store.tables import Table


@dataclass(frozen=True)
class Acting:
    """Somebody on whose behalf the database is asked."""

    id: str
    """The owner of what is made."""
    everything: bool = False
    """Whether rows of others are seen, too."""
    bounded: bool = True
    """Whether quotas hold."""


ACTING: ContextVar[Acting | None] = ContextVar("studio_acting", default=None)


def owner() -> str:
    """Whose it is what is made now; empty where there are no accounts."""
    acting = ACTING.get()
    return acting.id if acting else ""


@contextmanager
def for_everybody() -> Iterator[None]:
    """What is counted or decided within this looks at the rows of all."""
    token = ACTING.set(None)
    try:
        yield
    finally:
        ACTING.reset(token)


new_session = sessionmaker(expire_on_commit=False)
"""Makes sessions that see what the one who acts may see."""


@event.listens_for(new_session, "do_orm_execute")
def _limit(state: ORMExecuteState) -> None:
    acting = ACTING.get()
    if acting is None or acting.everything or state.is_column_load or state.is_relationship_load:
        return
    if state.is_select or state.is_update or state.is_delete:
        only = (with_loader_criteria(one, one.owner == acting.id) for one in _owned())  # type: ignore[attr-defined]
        state.statement = state.statement.options(*only)


@cache
def _owned() -> tuple[type[Table], ...]:
    """Every table whose rows have an owner."""
    return tuple(one.class_ for one in Table.registry.mappers if "owner" in one.columns)
