"""Webhooks and what is to be sent to them: written in the transaction that changes a job, so none is forgotten.

Messages about one job go to one hook in order: the next one waits until the one before it was accepted.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy import update as changed
from sqlalchemy.orm import Session

from llm_installer.studio.plain import Json
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed, Unknown
from llm_installer.studio.store.tables import Delivery, Event, Hook, Job

WAITS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 43_200.0, 86_400.0)
"""Seconds before each next try of a message, about; when the try after the last of them fails, its hook is off."""
MOST = 20
"""Hooks of one owner."""


@dataclass(frozen=True)
class Due:
    """A message whose turn it is."""

    id: int
    hook_id: str
    url: str
    message: str
    body: str
    tries: int


def create(store: Store, url: str, states: Sequence[str], owner: str, key: str) -> Hook:
    """A new hook. Raises NotAllowed where its owner has as many as may be."""
    with store.writing() as session:
        count = session.scalar(select(func.count()).select_from(Hook).where(Hook.owner == owner)) or 0
        if count >= MOST:
            raise NotAllowed(f"There are {count} webhooks already, which is as many as may be; delete one first")
        hook = Hook(
            id=f"hook_{uuid.uuid4().hex}", url=url, states={"states": list(states)}, owner=owner, key=key,
            created_at=store.now(session), failures=0, off="",
        )  # fmt: skip
        session.add(hook)
        return hook


def listed(session: Session, owner: str | None = None) -> Sequence[Hook]:
    """Hooks, the oldest first; of one owner where that is given."""
    query = select(Hook).order_by(Hook.created_at, Hook.id)
    return session.scalars(query if owner is None else query.where(Hook.owner == owner)).all()


def find(session: Session, hook_id: str) -> Hook:
    """A hook. Raises Unknown."""
    if (hook := session.get(Hook, hook_id)) is None:
        raise Unknown(f"There is no webhook {hook_id!r}")
    return hook


def remove(store: Store, hook_id: str) -> None:
    """Delete a hook, and what was to be sent to it. Raises Unknown."""
    with store.writing() as session:
        session.delete(find(session, hook_id))


def switch_on(store: Store, hook_id: str) -> Hook:
    """Send to a hook again, first what it has not had. Raises Unknown."""
    with store.writing() as session:
        hook = find(session, hook_id)
        hook.off, hook.failures = "", 0
        for waiting in session.scalars(select(Delivery).where(Delivery.hook_id == hook_id)):
            waiting.due, waiting.tries = store.now(session), 0
        return hook


def waiting(session: Session, hook_id: str) -> int:
    """How many messages a hook has not accepted yet."""
    return session.scalar(select(func.count()).select_from(Delivery).where(Delivery.hook_id == hook_id)) or 0


def told(session: Session, job: Job, happened: Sequence[Event], now: datetime) -> None:
    """A job came into other states: a message about each for every hook of its owner that wants it."""
    hooks = session.scalars(select(Hook).where(Hook.owner == job.owner, Hook.off == "")).all() if happened else ()
    for event in happened:
        for hook in hooks:
            wanted = hook.states.get("states") or ()
            assert isinstance(wanted, (list, tuple))
            if wanted and event.data.get("state") not in wanted:
                continue
            message = f"msg_{uuid.uuid4().hex}"
            body = json.dumps(_body(job, event, now), separators=(",", ":"))
            session.add(Delivery(hook_id=hook.id, job_id=job.id, message=message, body=body, tries=0, due=now))


def _body(job: Job, event: Event, now: datetime) -> Json:
    data: Json = {"job_id": job.id, "event_id": event.id, "model": job.model, **event.data}
    return {"type": f"job.{event.data.get('state')}", "timestamp": now.isoformat(), "data": data}


def due(store: Store, key: str, most: int = 100) -> list[Due]:
    """The messages whose turn it is, of the hooks that sign with a key: the first of each job for each hook."""
    with store.reading() as session:
        first = select(func.min(Delivery.id)).group_by(Delivery.hook_id, Delivery.job_id)
        query = (
            select(Delivery, Hook.url)
            .join(Hook, Hook.id == Delivery.hook_id)
            .where(Delivery.id.in_(first), Hook.key == key, Hook.off == "", Delivery.due <= store.now(session))
            .order_by(Delivery.id)
            .limit(most)
        )
        return [
            Due(one.id, one.hook_id, url, one.message, one.body, one.tries) for one, url in session.execute(query).all()
        ]


def accepted(store: Store, sent: Due) -> None:
    """A message was accepted: it is not sent again, and the next one may go."""
    with store.writing() as session:
        if found := session.get(Delivery, sent.id):
            session.delete(found)
        if hook := session.get(Hook, sent.hook_id):
            hook.failures = 0


def failed(store: Store, sent: Due, why: str, spread: Callable[[float], float], gone: bool = False) -> str:
    """A try failed; returns the sentence with which the hook was switched off, empty where it was not. `spread` makes
    of the seconds until the next try a little more or less; `gone`: the receiver wants no more."""
    with store.writing() as session:
        found, hook = session.get(Delivery, sent.id), session.get(Hook, sent.hook_id)
        if found is None or hook is None:
            return ""
        now = store.now(session)
        wait = WAITS[min(found.tries, len(WAITS) - 1)]
        later = now + timedelta(seconds=spread(wait))
        found.tries = found.tries + 1
        others = changed(Delivery).where(Delivery.hook_id == hook.id, Delivery.due < later)
        session.execute(others.values(due=later))  # its other jobs need not find out the same
        hook.failures += 1
        if gone or found.tries > len(WAITS):
            count = f"{found.tries} tries" if found.tries > 1 else "a try"
            hook.off = f"Switched off on {now:%Y-%m-%d at %H:%M} UTC after {count} to send one message; the last: {why}"
        return hook.off
