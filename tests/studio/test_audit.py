"""What the audit log calls requests, and that what it says of webhooks holds nobody's secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from llm_installer.studio.access import audit
from llm_installer.studio.store import hooks
from llm_installer.studio.store.account_tables import Audit
from llm_installer.studio.store.opening import Store
from tests.studio.people import World, changing, running

NOT_WRITTEN = {
    "DELETE /chat/{name}/{path:path}": "talk: the server of the model has its own log",
    "POST /chat/{name}/{path:path}": "talk: the server of the model has its own log",
    "POST /new/warm": "changes nothing: a process gets ready",
    "POST /new/{file_id}/plan": "changes nothing: a plan is made",
    "POST /new/{file_id}/time": "changes nothing: steps are timed",
    "POST /api/workers/claim": "comes every few seconds; the job says who has it",
    "POST /api/workers/jobs/{job_id}/checkpoint": "is in the job's own log",
    "POST /api/workers/jobs/{job_id}/complete": "is in the job's own log",
    "POST /api/workers/jobs/{job_id}/fail": "is in the job's own log",
    "POST /api/workers/jobs/{job_id}/give-back": "is in the job's own log",
    "POST /api/workers/jobs/{job_id}/report": "is in the job's own log",
    "PUT /blobs/{sha256}": "a piece of a file: the result that it is part of is in the job's own log",
}
"""Requests that leave no row where they succeed, and why."""
HOOK = "https://8.8.8.8:8443/services/T0/hush-hush?key=hush"


@pytest.fixture
def world(llm_home: object) -> Iterator[World]:
    with running() as found:
        yield found


def test_every_change_has_a_name_or_a_reason_for_none(world: World) -> None:
    routes = {f"{method} {path}" for method, path in changing(world)}
    quiet = {one for one in routes if audit.QUIET.match(re.sub(r"\{[^}]*\}", "x", one.partition(" ")[2]))}
    assert quiet == set(NOT_WRITTEN)
    assert routes - quiet == set(audit.ACTS), "no row is missing, and none is of a request that there is no more"


def test_webhooks_are_in_the_log_and_who_only_looks_sees_where_they_lead(world: World) -> None:
    ada, vic, root = (world.people[name] for name in ("ada", "vic", "root"))
    made = ada.http.post("/api/webhooks", json={"url": HOOK}, headers={"x-form-token": ada.token}).json()
    path = f"/api/webhooks/{made['id']}"
    why = f"Switched off; the last: {HOOK} does not answer"
    with world.studio.store.writing() as session:
        hooks.find(session, made["id"]).off = why
    assert ada.get(path).json()["why_off"] == why
    for person in (ada, root):
        assert [one["url"] for one in person.get("/api/webhooks").json()["data"]] == [HOOK]
    with world.with_key(ada.key("read")) as reading, world.with_key(ada.key("train")) as training:
        assert training.get(path).json()["url"] == HOOK
        for found in (vic.get(path), reading.get(path), vic.get("/api/webhooks"), reading.get("/api/webhooks")):
            assert '"url":"https://8.8.8.8:8443"' in found.text and "hush" not in found.text
            assert '"on":false' in found.text
    assert world.people["bob"].get(path).status_code == 404
    assert ada.post(f"{path}/on").json()["url"] == HOOK
    assert ada.http.delete(path, headers={"x-form-token": ada.token}).status_code == 200
    page = root.get("/audit").text
    for words in ("make a webhook", "switch a webhook on", "delete a webhook", made["id"], "https://8.8.8.8:8443"):
        assert words in page
    assert "hush" not in page


def test_who_is_told_to_wait_fills_no_log(world: World) -> None:
    """Nor does who has too much, as often as they try."""
    statuses = [world.signed_in("root", "wrong-password").status_code for _ in range(30)]
    assert statuses.count(429) > 20
    rows = audit.listed(world.studio.store, "root")
    assert [row.status for row in rows].count(401) == statuses.count(401) and 429 not in {row.status for row in rows}


def test_rows_are_kept_for_a_year(store: Store) -> None:
    said = {"who": "ada", "how": "", "what": "sign in", "address": "10.0.0.1", "status": 200}
    with store.writing() as session:
        now, old = store.now(session), store.now(session) - audit.KEPT - timedelta(hours=1)
        session.add_all(Audit(at=old, about="old", **said) for _ in range(audit.AT_ONCE + 1))
        session.add(Audit(at=now - audit.KEPT + timedelta(hours=1), about="young", **said))
    assert (audit.sweep(store), audit.sweep(store)) == (audit.AT_ONCE + 1, 0)
    assert [row.about for row in audit.listed(store)] == ["young"]
