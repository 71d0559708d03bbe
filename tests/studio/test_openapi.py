"""What the studio says of itself in OpenAPI, and what becomes of requests that follow it, or do not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from llm_installer.studio.api.tail import Tail
from llm_installer.studio.app import app_of
from llm_installer.studio.context import Studio
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.store import checker, jobs
from llm_installer.studio.store.opening import open_store
from tests.openapi import attacked


def test_every_route_that_is_no_page_is_described(api: httpx.Client) -> None:
    found = api.get("/openapi.json").json()
    said = [(path, method, one) for path, methods in found["paths"].items() for method, one in methods.items()]
    assert len(said) > 30 and {path for path, _, _ in said} >= {"/api/train", "/api/webhooks", "/v1/files"}
    assert [(path, method) for path, method, one in said if not (one.get("description") or "").strip()] == []


@pytest.mark.slow
def test_what_schemathesis_makes_of_the_document_is_no_server_error(
    studio: Studio, api: httpx.Client, make_job: Callable[..., str], tmp_path: Path
) -> None:
    make_job()
    said = attacked(studio.address, tmp_path, "--request-timeout", "30")  # a stream ends no earlier than its job
    assert "passed" in said or "/api/jobs" in said
    assert api.get("/health").status_code == 200
    assert checker.check(studio.store, studio.folder) == []
    with studio.store.reading() as session:
        assert len(jobs.listed(session, jobs.Wanted(most=2))) == 2, "some of them were good requests"


def test_the_checkout_keeps_nothing_of_it() -> None:
    root = Path(__file__).resolve().parents[2]
    listed = subprocess.run(["git", "ls-files", ".schemathesis"], cwd=root, capture_output=True, text=True, check=False)
    assert listed.stdout == "" and "/.schemathesis/" in (root / ".gitignore").read_text(encoding="utf-8").split()


def test_what_no_database_takes_is_the_fault_of_who_sent_it(database: str, llm_home: Path) -> None:
    """A null character in a text, a number that is none: Postgres refuses what SQLite keeps."""
    app = app_of(Studio(StudioRequest(), store := open_store(database), llm_home, "http://127.0.0.1", Tail(store)))
    llm_home.mkdir(parents=True)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert client.get("/api/jobs/%00").status_code in (400, 404)
        job, _ = jobs.create(store, jobs.NewJob("tiny", None))
        assert client.post("/api/workers/claim", json={"worker": "a\0b"}).status_code in (200, 400)
        assert client.post("/api/workers/claim", json={"worker": "w", "job_id": job.id}).status_code in (200, 204)
        headers = {"content-type": "application/json"}
        half = r'{"model": "tiny", "training_file": "\ud800"}'
        assert client.post("/v1/fine_tuning/jobs", content=half, headers=headers).status_code == 400
        unread = client.post("/api/jobs", content=b'{"model": "\xff"}', headers=headers)
        assert unread.status_code == 400 and unread.json()["error"]["code"] == "invalid_request", unread.text
        assert "is not something that" not in unread.text
        nan = '{"attempt": 1, "measured": {"x": NaN}, "events": [{"type": "metrics", "data": {"step": Infinity}}]}'
        assert client.post(f"/api/workers/jobs/{job.id}/report", content=nan, headers=headers).status_code == 200
        assert client.get(f"/api/jobs/{job.id}").json()["measured"] == {"x": None}
        assert client.get(f"/v1/fine_tuning/jobs/ftjob-{job.id}/checkpoints").json()["data"] == []
    store.close()
