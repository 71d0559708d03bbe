"""The stream of a job's events: every event once, in order, from any number on, until the job has ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import httpx

from llm_installer.studio.api.curves import thinned
from llm_installer.studio.context import Studio
from llm_installer.studio.store import claims
from llm_installer.studio.store.claims import Claim, Report
from llm_installer.studio.store.events import NewEvent

Found = list[tuple[int, str, dict[str, object]]]


def read(api: httpx.Client, job: str, last: int = 0, until: str = "end") -> Found:
    """(number, name, data) of each event until one of that name."""
    found: Found = []
    headers = {"last-event-id": str(last)} if last else {}
    with api.stream("GET", f"/api/jobs/{job}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}
                if found[-1][1] == until:
                    break
    return found


def test_what_happens_while_it_is_read_and_what_was_missed(
    api: httpx.Client, studio: Studio, make_job: Callable[..., str]
) -> None:
    job = make_job()
    store = studio.store
    live: Found = []
    reader = threading.Thread(target=lambda: live.extend(read(api, job)))
    reader.start()
    assert claims.claim(store, Claim("w"))
    for step in range(30):
        with store.writing() as session:
            claims.report(store, session, job, Report(1, events=[NewEvent("metrics", {"step": step})]))
        studio.tail.wake(job)
    with store.writing() as session:
        claims.fail(store, session, job, 1, "no reason")
    studio.tail.wake(job)
    reader.join(60)
    numbers = [number for number, name, _ in live if name != "end"]
    assert numbers == sorted(set(numbers)) and live[-1][1] == "end"
    steps = [data["data"]["step"] for _, name, data in live if name == "metrics"]  # type: ignore[index]
    assert steps == list(range(30))
    middle = numbers[11]
    assert read(api, job, middle) == [one for one in live if one[0] > middle]
    assert [name for _, name, _ in read(api, job, numbers[-1])] == ["end"]
    assert api.get("/api/jobs/nobody/events").status_code == 404


def test_whoever_missed_very_much_gets_one_picture(
    api: httpx.Client, studio: Studio, make_job: Callable[..., str]
) -> None:
    job = make_job()
    assert claims.claim(studio.store, Claim("w"))
    metrics = [NewEvent("metrics", {"kind": "step", "step": step, "loss": 1.0}) for step in range(3000)]
    with studio.store.writing() as session:
        claims.report(studio.store, session, job, Report(1, events=metrics))
    found = read(api, job, until="snapshot")
    assert len(found) == 1 and found[0][2]["job"]["job_id"] == job  # type: ignore[index]
    assert len(found[0][2]["metrics"]) <= 2000  # type: ignore[arg-type]


def test_a_thinned_curve_keeps_its_ends_its_peaks_and_every_evaluation() -> None:
    steps = [{"kind": "step", "step": n, "loss": 9.0 if n == 5003 else -9.0 if n == 7007 else 1.0} for n in range(9999)]
    found = thinned([*steps, {"kind": "evaluation", "step": 9}], 500)
    kept = [one["step"] for one in found if one["kind"] == "step"]
    assert len(kept) <= 502 and {0, 5003, 7007, 9998} <= set(kept) and kept == sorted(kept)
    assert found[-1]["kind"] == "evaluation"
