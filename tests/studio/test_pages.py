"""The pages as a program asks for them: what is written by others stays text, files stay in their folders, children in
their limits, and every page says what the database and the run's folder say."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import resource
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx2
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.install.installer import install
from llm_installer.studio import foresight, insight
from llm_installer.studio.api.tail import Tail
from llm_installer.studio.app import app_of
from llm_installer.studio.context import Studio
from llm_installer.studio.insight import Limits
from llm_installer.studio.pages import asked, children, new
from llm_installer.studio.pages.archive import zipped
from llm_installer.studio.pages.drawing import templates
from llm_installer.studio.pages.models import checked
from llm_installer.studio.pages.points import MOST_POINTS, points_of
from llm_installer.studio.pages.report import report_parts
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.states import COMPLETED, FAILED, PREPARING, TRAINING
from llm_installer.studio.store import events, files, jobs
from llm_installer.studio.store.events import NewEvent
from llm_installer.studio.store.jobs import NewJob
from llm_installer.studio.store.opening import open_store
from llm_installer.studio.store.tables import File
from tests.made_runs import make_run
from tests.server.page_api import running

if TYPE_CHECKING:
    from llm_installer.studio.store.tables import Job

RUN = "20260101-100000-medium"
EVIL = """<img src=x onerror="hurt()">'"</script><script>hurt()</script>{{7*7}}\x1b[2J\u202e"""
NAMES = [
    '../../x"\r\nSet-Cookie: a=b',
    EVIL,
    "a,b*[c]?.csv",
    "-rf.csv",
    ".bashrc",
    "x" * 400 + ".csv",
    "\ud800.csv",
    "a\0b.csv",
]


@dataclass
class Open:
    """A studio that answers, without a worker."""

    studio: Studio
    http: httpx2.Client

    def file(self, name: str = "qa.csv", content: bytes = b"input,output\nq,a\n") -> File:
        place = files.receiving(self.studio.folder)
        place.write_bytes(content)
        return files.keep(self.studio.store, self.studio.folder, place, name)

    def job(self, state: str = "queued", model: str = "tiny", file: File | None = None, **more: object) -> Job:
        made, _ = jobs.create(self.studio.store, NewJob(model=model, file_id=(file or self.file()).id))
        with self.studio.store.writing() as session:
            job = jobs.locked(session, made.id)
            path = {TRAINING: (PREPARING, TRAINING), COMPLETED: (PREPARING, COMPLETED), FAILED: (FAILED,)}.get(
                state, ()
            )
            for step in path:
                jobs.move(job, step, session, self.studio.store.now(session), str(more.get("error", "")))
            for name, value in more.items():
                setattr(job, name, value)
        return job

    def tell(self, job: Job, *found: NewEvent) -> None:
        with self.studio.store.writing() as session:
            events.add(session, jobs.locked(session, job.id), found, self.studio.store.now(session))
        self.studio.tail.wake(job.id)


@pytest.fixture
def opened_studio(llm_home: Path) -> Iterator[Open]:
    folder = llm_home / "studio"
    folder.mkdir(parents=True)
    store = open_store(folder / "studio.sqlite3")
    studio = Studio(StudioRequest(), store, folder, "http://127.0.0.1", Tail(store))
    with running(app_of(studio)) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        yield Open(studio, http)
        studio.tail.end()
    store.close()


@pytest.fixture
def folder(llm_home: Path) -> ModelDir:
    found = ModelDir(install("tiny", say=lambda text: None).root)
    run = make_run(found, RUN, 1e-3)
    run.report.write_text(f"# tiny: run\n\nTrained on {EVIL}.\n\n## Before and after\n\n{EVIL}\n", encoding="utf-8")
    run.samples.write_text(json.dumps({"step": 0, "prompt": EVIL, "answer": EVIL}) + '\n{"half', encoding="utf-8")
    lines = [{"kind": "step", "step": n, "loss": 1 / n, "learning_rate": 0.1} for n in range(1, 9)]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return found


class Elements(HTMLParser):
    """What a browser would make of a page: names of elements and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(f"{tag}[{name}]" for name, _ in attrs)}


def harmless(text: str) -> None:
    """No element and no attribute that runs something, or looks differently from what the style sheets say."""
    found = Elements(text).found
    assert not {one for one in found if "[on" in one or "[style]" in one or one in ("img", "style", "iframe", "base")}
    assert "<script>" not in text


def test_hostile_texts_stay_texts_on_every_page(opened_studio: Open, folder: ModelDir) -> None:
    name = EVIL.replace("/", "")
    file = opened_studio.file(name)
    failed = opened_studio.job(FAILED, file=file, error=EVIL, suffix=EVIL)
    live = opened_studio.job(TRAINING, file=file, run=RUN, worker=EVIL, predicted={"words": EVIL, "seconds": EVIL})
    opened_studio.tell(
        live, NewEvent("message", {"text": EVIL}, "warn"), NewEvent("metrics", {"step": EVIL, "loss": EVIL})
    )
    keys = (failed.id, live.id, f"tiny/{RUN}")
    paths = ["/models", "/new", f"/new/{file.id}?model=tiny&epochs={'%3Cimg%20onerror'}", "/runs", "/chat", "/settings"]
    paths += [f"/runs/{key}" for key in keys]
    paths += [
        f"/compare?run={live.id}&run=tiny/{RUN}",
        f"/runs/{quote(EVIL)}",
        "/new/file-nothing",
    ]
    for path in paths:
        answer = opened_studio.http.get(path)
        assert answer.status_code in (200, 400, 404), path
        harmless(answer.text)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy and "default-src 'none'" in policy, path
        assert "set-cookie" not in answer.headers, path
        assert re.search(r"https?://(?!127\.0\.0\.1)", answer.text) is None, "nothing comes from elsewhere"
    assert "&lt;img src=x" in opened_studio.http.get(f"/runs/{failed.id}").text, "it is shown, as text"


def test_hostile_rows_stay_texts() -> None:
    """Parts that are made of what the command line says of a file and a plan."""
    piece = {"text": EVIL, "learned": True}
    row = {"file": f"data.csv/{EVIL}", "line": 3, "reason": EVIL, "notes": [EVIL]}
    shown = {**row, "rows": [{"tokens": 1, "learned": 1, "pieces": [piece]}]}
    cut = {"rows": 1, "why": EVIL}
    tokens = {
        "cut": cut,
        "cut_rows": [row],
        "histogram": [{"tokens": 5, "rows": 1}],
        "quantiles": {EVIL: 1},
        "supervised_share": 0.5,
    }
    data = {"examples": 1, "train": 1, "validation": 0, "validation_reason": EVIL, "dropped_count": 1, "duplicates": 0}
    data |= {
        "dropped": [row],
        "formats": {EVIL: 1},
        "notices": [EVIL],
        "warnings": [EVIL],
        "tokens": tokens,
        "shown": [shown],
    }
    setting = {"name": "epochs", "help": EVIL, "choices": [EVIL], "type": "text", "given": EVIL}
    plan = {
        "plan": [
            {"name": EVIL, "value": EVIL, "why": EVIL, "setting": setting},
            {"name": EVIL, "value": EVIL, "why": EVIL, "setting": None},
        ]
    }
    plan |= {"memory": {"free_bytes": 2, "predicted_bytes": 1, "fits": False}, "adapter": {"bytes": 1, "parameters": 1}}
    file, seen = {"id": "file-1", "name": EVIL}, {"names": []}
    check = {
        "checks": [{"name": EVIL, "ok": None, "found": EVIL, "hint": EVIL}],
        "memory": [{"setting": EVIL, "peak": EVIL, "verdict": EVIL}],
    }
    for name, values in {
        "data.html": {"found": data},
        "rows.html": {"found": data, "whole": [row], "partly": [row]},
        "plan.html": {
            "found": plan,
            "file": file,
            "model": EVIL,
            "given": {},
            "prompts": EVIL,
            "time": {"words": EVIL},
            "seen": seen,
        },
        "time.html": {"time": {"error": EVIL}},
        "verdict.html": {"found": check, "model": EVIL, "installed": False},
        "installing.html": {
            "installing": [{"model": EVIL, "running": True, "failed": False, "line": EVIL, "share": None, "own": True}]
        },
    }.items():
        text = templates().get_template(name).render(**values)
        harmless(text)
        assert "&lt;img src=x" in text, name


@given(st.one_of(st.sampled_from(NAMES), st.text(max_size=40)))
def test_what_is_looked_at_is_called_by_its_ending_alone(name: str) -> None:
    found = asked.ending(name)
    assert re.fullmatch(r"(\.[a-z0-9]{1,8}){0,2}", found)


def test_uploads_are_kept_whole_and_inside(opened_studio: Open, folder: ModelDir) -> None:
    for name in ('../../x"\r\nSet-Cookie: a=b.csv', "a,b*[c].csv", "-rf.jsonl"):
        sent = {"file": (name, b"input,output\nq,a\n")}
        answer = opened_studio.http.post("/new", data={"model": "tiny"}, files=sent)
        assert answer.status_code == 303 and "set-cookie" not in answer.headers
        page = opened_studio.http.get(answer.headers["location"])
        assert page.status_code == 200 and "tiny" in page.text
    root = opened_studio.studio.folder
    assert {one.name.partition("-")[0] for one in (root / "files").iterdir()} == {"file"}
    assert {one.name for one in (root / "looked-at").rglob("data*")} == {"data.csv", "data.jsonl"}
    pasted = opened_studio.http.post("/new", data={"model": "tiny", "text": '{"prompt": "q", "answer": "a"}\n'})
    assert pasted.status_code == 303
    nothing = opened_studio.http.post("/new", data={"model": "tiny", "text": " "})
    assert nothing.status_code == 400 and "choose a file" in nothing.text


def test_a_plan_reads_only_its_own_file(opened_studio: Open, folder: ModelDir) -> None:
    file = opened_studio.file()
    for name in ("validation_data", "data", "output_dir", "eval_prompts", "resume_from", "help"):
        answer = opened_studio.http.post(f"/new/{file.id}/plan", data={"model": "tiny", name: "/etc/passwd"})
        assert answer.status_code == 400 and "may not say" in answer.text
    for value in ("2\0", "2\n3", "9" * 3000):
        assert opened_studio.http.post(f"/new/{file.id}/plan", data={"epochs": value}).status_code == 400


def test_a_number_may_be_typed_as_the_page_shows_it(opened_studio: Open, folder: ModelDir) -> None:
    typed = {"max_seq_length": "1,536 tokens", "max_grad_norm": "norm 1.5", "lora_r": "4,8,16", "test_prompt": "3 mice"}
    found = asked.asked_of(opened_studio.studio, opened_studio.file().id, {"model": "tiny", **typed})
    assert found.options == {**typed, "max_seq_length": "1536", "max_grad_norm": "1.5"}


def test_a_file_that_is_deleted_has_no_other_name(opened_studio: Open, folder: ModelDir) -> None:
    file, root = opened_studio.file(), opened_studio.studio.folder
    asked.named(root, file)
    files.remove(opened_studio.studio.store, root, file.id)
    assert not [one for one in root.rglob("*") if file.id in str(one)]


def test_each_job_keeps_its_questions_and_the_file_its_name(opened_studio: Open, folder: ModelDir) -> None:
    file, root = opened_studio.file(), opened_studio.studio.folder
    first, second = (new._prompts(opened_studio.studio, _asked(root, file, text)) for text in ("one?\ntwo?", "three?"))
    assert (first.read_text("utf-8"), second.read_text("utf-8")) == ("one?\ntwo?\n", "three?\n")
    found = asked.in_its_name({"error": "data.csv holds no records", "warnings": ["data.csv: odd"]}, _asked(root, file))
    assert found == {"error": "qa.csv holds no records", "warnings": ["qa.csv: odd"]}


def _asked(root: Path, file: File, prompts: str = "") -> asked.Asked:
    return asked.Asked(file, asked.named(root, file), "tiny", {}, prompts)


def test_a_bomb_ends_in_a_sentence(tmp_path: Path, llm_home: Path) -> None:
    """One line of 3 GB in a few kilobytes; the child has 700 MB."""
    bomb = tmp_path / "data.jsonl.gz"
    bomb.write_bytes(gzip.compress(b"x" * (16 << 20)) * 192)
    found = insight.asked(["data", bomb.name, "--json"], tmp_path, Limits(700 << 20, 60))
    assert [*found] == ["error"] and str(found["error"]).endswith("; try a smaller file")


def test_a_value_that_cannot_be_is_refused_in_its_own_sentence(tmp_path: Path, llm_home: Path) -> None:
    found = insight.asked(["train", "tiny", "--epochs=abc", "--json"], tmp_path, insight.ENCODING)
    assert found == {"error": "Invalid value for '--epochs': 'abc' is not a number"}


def test_what_takes_too_long_is_ended(tmp_path: Path, llm_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insight, "_CHILD", "import subprocess\nsubprocess.run(['sleep', '1000'])\n")
    found = insight.asked(["data"], tmp_path, Limits(0, 0))
    assert "took longer than 0 seconds" in str(found["error"])
    monkeypatch.setattr(insight, "_CHILD", "import os, signal\nos.kill(os.getpid(), signal.SIGXCPU)\n")
    assert "takes more than 5 seconds" in str(insight.asked(["data"], tmp_path, Limits(0, 5))["error"])


@pytest.mark.parametrize(
    "name", ["/etc", "../x", "http://169.254.169.254/a", "a/../b", "a/b/c", "-x/y", "~/x", "a b/c", "TINY"]
)
def test_a_model_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(UsageError):
        checked(name)
    assert checked(" Qwen/Qwen3-0.6B ") == "Qwen/Qwen3-0.6B" and checked("tiny") == "tiny"


def wait_for(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_child_is_known_by_its_files(tmp_path: Path, llm_home: Path) -> None:
    """Another server that is started on the same folder finds it running, and later ended."""
    children.begin("a <b>", tmp_path / "x", ["help", "nothing-like-it"], tmp_path)
    (found,) = children.known(tmp_path)
    wait_for(lambda: found.code is not None)
    assert found.name == "a <b>" and found.code == 2 and any("nothing-like-it" in line for line in found.lines)
    child = children.begin("b", tmp_path / "y", ["install", "tiny"], tmp_path)
    os.killpg(child.pid[0], signal.SIGKILL)
    wait_for(lambda: child.code is not None)
    assert child.code == 1 and not child.alive
    about = json.loads((tmp_path / "y.json").read_text())
    (tmp_path / "y.json").write_text(json.dumps({**about, "pid": os.getpid()}))
    assert not child.alive, "the number is another process's by now"


def test_a_child_that_nobody_would_know_of_is_none(tmp_path: Path, llm_home: Path) -> None:
    """As where the disk is full: here no file may have a byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError):
            children.begin("a", tmp_path / "x", ["serve", "tiny"], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    wait_for(
        lambda: not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path / "x") in one.info["cmdline"]]
    )
    assert not (tmp_path / "x.json").exists()


def test_a_page_says_what_the_database_and_the_folder_say(opened_studio: Open, folder: ModelDir) -> None:
    assert 'id="loss"' in opened_studio.http.get(f"/runs/{opened_studio.job().id}").text, "it waits for its points"
    job = opened_studio.job(TRAINING, run=RUN, progress=40)
    first = opened_studio.http.get(f"/runs/{job.id}").text
    assert first == opened_studio.http.get(f"/runs/{job.id}").text and 'value="40"' in first
    points = opened_studio.http.get(f"/runs/{job.id}/points").json()["points"]
    assert [point["loss"] for point in points] == [1 / n for n in range(1, 9)]
    assert "chip training" in opened_studio.http.get("/runs").text
    answer = opened_studio.http.get(f"/runs/tiny/{RUN}/adapter.zip")
    assert "adapter_config.json" in zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert opened_studio.http.get(f"/runs/tiny/{RUN}/files/run.json").status_code == 404
    assert opened_studio.http.post(f"/runs/{job.id}/cancel").status_code == 303
    assert "being cancelled" in opened_studio.http.get(f"/runs/{job.id}").text


def test_runs_of_one_title_are_told_apart_and_a_request_is_answered(opened_studio: Open, folder: ModelDir) -> None:
    other = make_run(folder, "20260102-100000-fast", 1e-3)
    file = opened_studio.file()
    keys = [opened_studio.job(TRAINING, file=file, run=run).id for run in (RUN, other.id)]
    page = opened_studio.http.get(f"/compare?run={keys[0]}&run={keys[1]}").text
    assert f"tiny on qa.csv, {RUN}" in page and f"tiny on qa.csv, {other.id}" in page
    answer = opened_studio.http.post(f"/runs/{keys[0]}/stop")
    assert "was asked to stop" in opened_studio.http.get(answer.headers["location"]).text


def test_a_stream_goes_on_from_any_event_and_ends(opened_studio: Open) -> None:
    job = opened_studio.job(TRAINING)
    opened_studio.tell(job, *(NewEvent("metrics", {"kind": "step", "step": n, "loss": 1.0}) for n in range(5)))
    with opened_studio.studio.store.reading() as session:
        numbers = [event.id for event in events.after(session, job.id)]
    with opened_studio.studio.store.writing() as session:
        jobs.move(jobs.locked(session, job.id), COMPLETED, session, opened_studio.studio.store.now(session))
    text = opened_studio.http.get(f"/runs/{job.id}/live", headers={"Last-Event-ID": str(numbers[-2])}).text
    points = [json.loads(line) for line in re.findall(r"event: points\nid: \d+\ndata: (.*)\n", text)]
    assert [point["step"] for found in points for point in found] == [4], "only what was missed"
    assert text.rstrip().endswith("data: {}") and "event: end" in text and "completed" in text
    assert opened_studio.http.get("/runs/nothing/live").status_code == 404


def test_a_job_goes_to_colab_and_a_wrong_result_is_refused(opened_studio: Open) -> None:
    """What `colab_url` of the API leads to."""
    job, http = opened_studio.job(), opened_studio.http
    page = f"/jobs/{job.id}/colab"
    assert page in http.get(f"/runs/{job.id}").text and "Leave it to Colab" in http.get(page).text
    left = http.post(page).text
    assert f"/api/jobs/{job.id}/notebook" in left and "Take the result" in left and "This code" not in left
    refused = http.post(f"/jobs/{job.id}/result", files={"file": ("result.zip", b"no archive")})
    assert refused.status_code in (400, 409) and "Go back" in refused.text
    empty = http.post(f"/jobs/{job.id}/result", files={"nothing": ("a", b"")})
    assert empty.status_code == 400 and "There is no file yet" in empty.text
    assert "does not wait any more" in http.get(f"/jobs/{opened_studio.job(COMPLETED).id}/colab").text
    assert http.get("/jobs/nobody/colab").status_code == 404


def test_a_stream_ends_with_its_job(opened_studio: Open) -> None:
    """Else a browser would ask for a job that was deleted for ever."""
    job = opened_studio.job()
    with opened_studio.http.stream("GET", f"/runs/{job.id}/live") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("id: ")
        with opened_studio.studio.store.writing() as session:
            session.delete(jobs.locked(session, job.id))
        opened_studio.studio.tail.wake(job.id)
        assert "event: end" in [*lines]


@given(st.lists(st.tuples(st.integers(0, 6000), st.floats(0, 10)), max_size=50), st.integers(0, 6000))
def test_a_curve_has_few_points_and_all_peaks(odd: list[tuple[int, float]], count: int) -> None:
    lines: list[dict[str, object]] = [{"kind": "step", "step": n, "loss": 1.0 + (n % 7) / 100} for n in range(count)]
    lines += [{"kind": "evaluation", "step": n, "validation_loss": 2.0} for n in range(0, count, 500)]
    lines += [{"kind": "step", "step": step, "loss": loss} for step, loss in odd]
    found = points_of(lines)
    steps = [int(str(point["step"])) for point in found]
    assert steps == sorted(set(steps)) and len(found) <= MOST_POINTS + 20
    last = {int(str(line["step"])): line["loss"] for line in lines if "loss" in line}
    if last:
        kept = [point["loss"] for point in found if "loss" in point]
        assert max(kept) == max(last.values()) and min(kept) == min(last.values())  # type: ignore[type-var]


def test_what_was_predicted_is_said_beside_what_happened() -> None:
    assert foresight.said({"words": "about 2 minutes", "peak_bytes": 1 << 30}, {"seconds": 118.0}) == (
        "Expected: about 2 minutes (it took 2 minutes), 1.0 GiB of memory."
    )


def test_a_zip_holds_files_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "big").write_bytes(os.urandom(3 << 20))
    (tmp_path / "a" / "secret").symlink_to("/etc/passwd")
    found = zipfile.ZipFile(io.BytesIO(b"".join(zipped(tmp_path / "a"))))
    assert found.namelist() == ["big"] and found.read("big") == (tmp_path / "a" / "big").read_bytes()


def test_a_report_begins_with_what_matters() -> None:
    text = "# tiny\n\nTrained.\n\nTalk to it:\n\n    x\n\n![a](b.png)\n"
    text += "\n## Before and after\n\nbetter\n\n## Plan\n\nlong\n"
    assert report_parts(text) == [("", "Trained."), ("Before and after", "better")]
