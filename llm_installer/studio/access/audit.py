"""The audit log: each request that changes something, and each that was refused; who, what, when, from where."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select

from llm_installer.studio.store.account_tables import Audit
from llm_installer.studio.store.opening import Store

_SECRET = ("token", "secret", "code", "password")
"""Parts of addresses that are never written down."""
ACTS = {
    "POST /sign-in": "sign in",
    "POST /sign-out": "sign out",
    "POST /first/{token}": "make the first account",
    "POST /invite/{token}": "make an account",
    "POST /reset/{token}": "choose a new password",
    "POST /account/password": "change the password",
    "POST /account/keys": "make a key",
    "POST /account/keys/{key_id}/revoke": "revoke a key",
    "POST /account/sessions/{session_id}/end": "end a session",
    "POST /people/invite": "invite somebody",
    "POST /people/{account_id}": "change an account",
    "POST /people/{account_id}/reset": "make a link for a new password",
    "POST /people/limits": "change the limits",
    "POST /new": "upload a file",
    "POST /v1/files": "upload a file",
    "DELETE /v1/files/{file_id}": "delete a file",
    "POST /new/{file_id}/start": "create a job",
    "POST /api/train": "create a job",
    "POST /api/jobs": "create a job",
    "POST /v1/fine_tuning/jobs": "create a job",
    "POST /api/jobs/{job_id}/cancel": "cancel a job",
    "POST /runs/{job_id}/cancel": "cancel a job",
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": "cancel a job",
    "POST /api/jobs/{job_id}/again": "queue a job again",
    "POST /runs/{job_id}/again": "queue a job again",
    "POST /v1/fine_tuning/jobs/{job_id}/resume": "queue a job again",
    "DELETE /api/jobs/{job_id}": "delete a job",
    "POST /runs/{key:path}/delete": "delete a run",
    "POST /runs/{key:path}/use": "use a run",
    "POST /runs/{key:path}/save": "save a checkpoint of a run",
    "POST /runs/{key:path}/stop": "stop a run",
    "POST /runs/{key:path}/make/{name}": "make a file of a run",
    "POST /runs/{key:path}/unmake/{name}": "delete a file of a run",
    "POST /api/jobs/{job_id}/result": "hand in a result",
    "POST /jobs/{job_id}/result": "hand in a result",
    "POST /api/train/update/{job_id}": "report progress of a job",
    "POST /api/jobs/{job_id}/colab": "leave a job to Colab",
    "POST /jobs/{job_id}/colab": "leave a job to Colab",
    "POST /models/install": "install a model",
    "POST /models/install/stop": "stop an installation",
    "POST /models/{name}/rollback": "roll back what is in production",
    "POST /runs/{key:path}/promote/{stage}": "promote a run",
    "POST /runs/{key:path}/demote": "take a stage from a run",
    "POST /new/{file_id}/delete": "delete a file",
    "POST /new/hub/keep": "keep a dataset from the hub",
    "POST /new/hub/stop": "discard a dataset from the hub",
    "POST /api/webhooks": "make a webhook",
    "POST /api/webhooks/{hook_id}/on": "switch a webhook on",
    "DELETE /api/webhooks/{hook_id}": "delete a webhook",
    "POST /api/workers/hello": "register a worker",
    "POST /api/workers/pair": "pair a notebook",
    "POST /settings/prices": "change the prices",
    "POST /chat/{name}/start": "load a model to chat",
    "POST /chat/{name}/stop": "unload a model",
}
"""Names of requests that change something. Refused requests that only read are logged by method and path."""
QUIET = re.compile(
    r"/api/workers/(?:jobs/|claim)|/blobs/|/chat/[^/]+/(?!(?:start|stop)$)|/new/(?:[^/]+/(?:plan|time)|warm)$"
)
"""How paths begin of requests that change nothing by themselves, or come by the thousand and have their own log."""
LATER = (429, 503)
"""Answers that say to come again later: who does so every second would fill the log, and what they tried before is in
it."""
KEPT = timedelta(days=365)
"""How long rows are kept."""
AT_ONCE = 1000
"""Rows that one transaction deletes: others wait meanwhile."""


@dataclass(frozen=True)
class Entry:
    """A row of the log."""

    who: str
    how: str
    what: str
    about: str
    address: str
    status: int


def act(method: str, route: str) -> str:
    """What a request is called in the log."""
    return ACTS.get(f"{method} {route}", f"{method} {route}")[:80]


def about(found: Mapping[str, object], said: str = "") -> str:
    """What a request is about: `said` by who answers it, or the parts of its path that are no secrets."""
    parts = [str(value) for name, value in found.items() if not any(word in name for word in _SECRET)]
    text = said or " ".join(parts)
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def write(store: Store, entry: Entry) -> None:
    """Add a row."""
    with store.writing() as session:
        values = {name: str(value)[:most] for name, value, most in _columns(entry)}
        session.add(Audit(at=store.now(session), status=entry.status, **values))


def _columns(entry: Entry) -> list[tuple[str, str, int]]:
    return [
        ("who", entry.who, 64),
        ("how", entry.how, 80),
        ("what", entry.what, 80),
        ("about", entry.about, 200),
        ("address", entry.address, 64),
    ]


def sweep(store: Store) -> int:
    """Delete rows that are older than they are kept; returns how many."""
    count = some = _some_old(store)
    while some == AT_ONCE:
        count += (some := _some_old(store))
    return count


def _some_old(store: Store) -> int:
    with store.writing() as session:
        old = select(Audit.id).where(Audit.at < store.now(session) - KEPT).order_by(Audit.id).limit(AT_ONCE)
        ids = session.scalars(old).all()
        session.execute(delete(Audit).where(Audit.id.in_(ids)))
        return len(ids)


def listed(store: Store, who: str = "", before: int = 0, most: int = 100) -> Sequence[Audit]:
    """Rows, the newest first; of one name, and older than a row, where that is said."""
    query = select(Audit).order_by(Audit.id.desc()).limit(most)
    query = query.where(Audit.who == who) if who else query
    with store.reading() as session:
        return session.scalars(query.where(Audit.id < before) if before else query).all()
