"""The parts of a worker: pieces of a result, the process between it and its command, the reader of a run's folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from llm_installer.core.paths import Run
from llm_installer.core.run.record import FAILED, FINISHED, RUNNING, STOPPED, RunRecord
from llm_installer.core.run.requests import STOP_REASON
from llm_installer.planning.options import Options, decides
from llm_installer.studio import blobs
from llm_installer.studio.context import Studio
from llm_installer.studio.options import ALLOWED, VALIDATION, words
from llm_installer.studio.plain import plain_name
from llm_installer.studio.states import COMPLETED
from llm_installer.studio.store import events, jobs
from llm_installer.studio.worker import keeper
from llm_installer.studio.worker.client import Away, Refusal, Replaced, Server, pieces
from llm_installer.studio.worker.job import Broken, Job
from llm_installer.studio.worker.run_folder import Metrics, is_done
from llm_installer.studio.worker.telling import Telling, Work
from tests.studio.conftest import ADAPTER


def until(true: Callable[[], object], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.05)


def test_what_was_sent_once_is_not_sent_again(studio: Studio, tmp_path: Path) -> None:
    content = os.urandom((9 << 20) + 5)
    file, digest, total = tmp_path / "big", hashlib.sha256(content).hexdigest(), len(content)
    file.write_bytes(content)
    server = Server(studio.address)
    assert server.offset(digest) == (0, False)
    sent = list(pieces(file, 0))
    assert [len(piece) for _, piece in sent] == [4 << 20, 4 << 20, (1 << 20) + 5]
    assert server.put(digest, *sent[0], total) == (4 << 20, False)
    with pytest.raises(Refusal, match="4194304 bytes"):
        server.put(digest, *sent[2], total)
    assert server.put(digest, *sent[0], total) == (4 << 20, False), "the answer was lost, so it is sent once more"
    rest = list(pieces(file, server.offset(digest)[0]))
    assert [server.put(digest, *piece, total)[1] for piece in rest] == [False, True]
    assert server.offset(digest) == server.put(digest, 0, content[:5], total) == (total, True)
    assert blobs.place(studio.folder, digest).read_bytes() == content
    with pytest.raises(Refusal, match="does not have the hash"):
        server.put("0" * 64, 0, b"something", 9)
    assert server.offset("0" * 64) == (0, False)
    empty = hashlib.sha256(b"").hexdigest()
    assert server.put(empty, 0, b"", 0) == (0, True)
    server.close()


def test_a_job_is_not_completed_before_its_files_are_there(
    studio: Studio, make_job: Callable[..., str], hand_in: Callable[..., dict[str, object]]
) -> None:
    """The first worker is gone between the last piece and the end; the second has nothing to send any more."""
    job, server = make_job(), Server(studio.address)
    claimed = server.claim("one", ("local",))
    assert claimed and claimed["attempt"] == 1
    files = [
        {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for path, content in ADAPTER.items()
    ]
    for wrong in (files[1:], [*files, {**files[0], "path": "../x"}], [*files, files[0]], files):
        with pytest.raises(Refusal):
            server.tell(job, "complete", {"attempt": 1, "files": wrong})
    for content in ADAPTER.values():
        server.put(hashlib.sha256(content).hexdigest(), 0, content, len(content))
    with studio.store.reading() as session:
        assert jobs.find(session, job).state != COMPLETED
    assert server.hello("one", alone=True)["lost"] == 1
    again = server.claim("two", ("local",))
    assert again and again["attempt"] == 2
    assert all(server.offset(str(one["sha256"]))[1] for one in files)
    with pytest.raises(Replaced):
        server.tell(job, "complete", {"attempt": 1, "files": files})
    with pytest.raises(Replaced):
        server.tell(job, "report", {"attempt": 1, "progress": 99})
    assert hand_in(job, 2)["state"] == "completed"
    with pytest.raises(Replaced):
        server.tell(job, "fail", {"attempt": 1, "why": "late"})
    server.close()


@pytest.mark.parametrize(
    "values",
    ['{"step": "\\ud800"}', '{"\\ud800": 1}', f'{{"step": {10**400}}}', '{"step": ' + "[" * 300 + "]" * 300 + "}"],
)
@pytest.mark.parametrize("said", ['"measured": %s', '"events": [{"type": "metrics", "data": %s}]'])
def test_what_nobody_could_read_is_refused(
    api: httpx.Client, make_job: Callable[..., str], values: str, said: str
) -> None:
    job = make_job()
    assert api.post("/api/workers/claim", json={"worker": "w"}).status_code == 200
    report = f'{{"attempt": 1, {said % values}}}'
    answer = api.post(f"/api/workers/jobs/{job}/report", content=report, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and answer.json()["error"]["message"]
    shown = (f"/api/jobs/{job}/log", f"/v1/fine_tuning/jobs/ftjob-{job}/events", f"/runs/{job}/points")
    for path in ("/api/jobs", f"/api/train/status/{job}", *shown):
        assert api.get(path).status_code == 200


class Losing:
    """A studio whose first answer is lost on its way back."""

    def __init__(self, server: Server) -> None:
        self.server, self.lost = server, 0

    def tell(self, *given: Any) -> dict[str, object]:
        heard = self.server.tell(*given)
        if not self.lost:
            self.lost += 1
            raise Away("the answer was lost")
        return heard


def test_what_is_told_twice_is_kept_once(studio: Studio, make_job: Callable[..., str]) -> None:
    job, server = make_job(), Server(studio.address)
    for attempt in (1, 2):
        claim = server.claim("w", ("local",))
        assert claim
        losing = Losing(server)
        telling = Telling(losing, Work.of(claim), threading.Event())  # type: ignore[arg-type]
        telling.say(f"{attempt}: hello once")
        telling.tell()
        telling.say(f"{attempt}: and more")
        telling.end("give-back", "enough")
        assert losing.lost and not telling.waiting
    claim = server.claim("w", ("local",))
    event = {"type": "message", "data": {"text": "from one that does not count"}}
    for _ in range(2):
        server.tell(job, "report", {"attempt": 3, "events": [event]})
    with studio.store.reading() as session:
        found = [one.data["text"] for one in events.of_type(session, job, events.MESSAGE)]
    counted = [f"{attempt}: {text}" for attempt in (1, 2) for text in ("hello once", "and more")]
    assert found == [*counted, *["from one that does not count"] * 2]
    server.close()


def test_a_worker_tells_no_states(studio: Studio, make_job: Callable[..., str]) -> None:
    job, server = make_job(), Server(studio.address)
    assert server.claim("w", ("local",))
    for data in ({"state": COMPLETED, "status": COMPLETED}, {}):
        with pytest.raises(Refusal, match="message, metrics, sample"):
            server.tell(job, "report", {"attempt": 1, "events": [{"type": "state", "data": data}]})
    with studio.store.reading() as session:
        assert [one.data["state"] for one in events.of_type(session, job, events.STATE)] == ["queued", "preparing"]
    server.close()


def test_a_worker_sends_no_half_characters(studio: Studio, make_job: Callable[..., str]) -> None:
    job, server = make_job(), Server(studio.address)
    assert server.claim("w", ("local",))
    server.tell(job, "fail", {"attempt": 1, "why": "b\udcfcro.csv cannot be read"})
    with studio.store.reading() as session:
        assert jobs.find(session, job).error == "b?ro.csv cannot be read"
    server.close()


def test_the_files_of_a_job_keep_their_names_and_an_error_says_no_more_than_them(
    studio: Studio, api: httpx.Client, tmp_path: Path
) -> None:
    """The ending of a name says how a file is read. A name in letters of many bytes fits with what is put beside it."""
    name = f"{chr(0x6570) * 100}.csv"
    made = [
        api.post("/v1/files", files={"file": (name, rows)}).json()["id"] for rows in (b"input,output\na,b\n", b"x\n")
    ]
    asked = {"model": "tiny", "training_file": made[0], "validation_file": made[1]}
    assert api.post("/v1/fine_tuning/jobs", json=asked).status_code == 200
    server = Server(studio.address)
    claimed = server.claim("w", ("local",))
    assert claimed
    job = Job(server, Work.of(claimed), tmp_path / "job", threading.Event())
    (tmp_path / "job").mkdir()
    found = [job._fetched(what) for what in ("data", VALIDATION)]
    assert [one.name for one in found] == [plain_name(name)] * 2 and found[1].read_bytes() == b"x\n"
    assert [job._fetched(what) for what in ("data", VALIDATION)] == found
    with pytest.raises(Broken, match=f"^{VALIDATION}/{plain_name(name)}"):
        job._run(["data", str(found[1])], lambda: None)
    server.close()


def test_a_server_that_is_gone_is_away_and_no_refusal(unused_port: int) -> None:
    server = Server(f"http://127.0.0.1:{unused_port}")
    with pytest.raises(Away):
        server.claim("w", ("local",))
    server.close()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


FAMILY = """
import subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(other.pid, flush=True)
time.sleep(600)
"""


def family(folder: Path) -> tuple[subprocess.Popen[bytes], psutil.Process, psutil.Process]:
    """(a process that stands for the worker, its command, what the command started in a session of its own)."""
    said = folder / "said"
    start = (
        "import subprocess, sys, time\n"
        f"out = open({str(said)!r}, 'w')\n"
        "one = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=out, "
        "start_new_session=True)\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", start, keeper.__file__, sys.executable, "-c", FAMILY]
    worker = subprocess.Popen(command)
    until(lambda: said.exists() and said.read_text().strip())
    other = psutil.Process(int(said.read_text()))
    command_itself = other.parent()
    assert command_itself
    return worker, command_itself, other


@pytest.mark.parametrize("victim", ["worker", "keeper"])
def test_nothing_of_a_job_outlives_its_worker(tmp_path: Path, victim: str) -> None:
    worker, command, other = family(tmp_path)
    between = command.parent()
    assert between and between.ppid() == worker.pid
    try:
        (worker if victim == "worker" else between).kill()
        until(lambda: not command.is_running() or command.status() == psutil.STATUS_ZOMBIE)
        if victim == "worker":
            until(lambda: not other.is_running() or other.status() == psutil.STATUS_ZOMBIE)
    finally:
        for process in (worker, other):
            if process.is_running() if isinstance(process, psutil.Process) else process.poll() is None:
                process.kill()
        worker.wait()


def test_the_keeper_hands_on_a_stop_and_the_exit_code() -> None:
    stops = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(7))\nprint('on', flush=True)\ntime.sleep(600)"
    )
    ends = "import os; os.kill(os.getpid(), 9)"
    for code, wanted in ((stops, 7), (ends, 137), ("raise SystemExit(3)", 3)):
        command = [sys.executable, keeper.__file__, sys.executable, "-c", code]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout and process.stdin
            if code == stops:
                assert process.stdout.readline() == b"on\n"
                process.stdin.write(b"stop\n")
                process.stdin.flush()
            assert process.wait(60) == wanted


def test_numbers_are_read_once_though_a_resumed_run_writes_them_again(tmp_path: Path) -> None:
    run, metrics = Run(tmp_path), Metrics()

    def line(step: int, kind: str = "step") -> str:
        return json.dumps({"kind": kind, "step": step, "loss": step / 7}) + "\n"

    def steps() -> list[tuple[object, object]]:
        return [(one["kind"], one["step"]) for one in metrics.new(run)]

    assert steps() == []
    run.metrics.write_text(line(0, "evaluation") + line(1) + line(2) + line(3)[:9])
    assert steps() == [("evaluation", 0), ("step", 1), ("step", 2)]
    run.metrics.write_text(line(0, "evaluation") + line(1) + line(2) + line(3))
    assert steps() == [("step", 3)] and steps() == []
    run.metrics.write_text(line(0, "evaluation") + line(1))  # resumed after step 1
    assert steps() == []
    run.metrics.write_text(line(0, "evaluation") + "".join(map(line, range(1, 6))) + line(5, "evaluation") + "junk\n")
    assert steps() == [("step", 4), ("step", 5), ("evaluation", 5)]
    later = Metrics({"step": 4, "evaluation": 0})  # another worker, told by the server
    assert [(one["kind"], one["step"]) for one in later.new(run)] == [("step", 5), ("evaluation", 5)]


@pytest.mark.parametrize(
    ("status", "reason", "done"),
    [
        (FINISHED, "all epochs are done", True),
        (STOPPED, STOP_REASON, True),
        (STOPPED, "you stopped it", False),  # by the signal that ends a worker
        (RUNNING, "", False),
        (FAILED, "", False),
    ],
)
def test_what_a_signal_ended_is_not_done(tmp_path: Path, status: str, reason: str, done: bool) -> None:
    run, result = Run(tmp_path), {"stop_reason": reason} if reason else {}
    RunRecord(status, "2026-11-20T09:00:00", {}, "/", "abc", {}, "m", "d", result=result).write(run)
    assert is_done(run) == done


def test_options_of_a_job_are_options_of_train() -> None:
    assert set(ALLOWED) <= set(vars(Options()))
    assert {name for name in ALLOWED if not decides(name)} <= {"skip_test", "test_prompt"}
    assert words({"epochs": 3, "strict": True, "test_prompt": "--push me"}) == [
        "--epochs=3",
        "--strict",
        "--test-prompt=--push me",
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("my data.csv", "my data.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.json", "y.json"),
        ('a"\r\nX: <b>.csv', "a___X_ _b_.csv"),
        ("..", "data"),
        ("", "data"),
        (f"{'x' * 300}.jsonl", f"{'x' * 114}.jsonl"),
        (f"{'x' * 300}.jsonl.gz", f"{'x' * 111}.jsonl.gz"),
        (f"{chr(0x6570) * 100}.jsonl", f"{chr(0x6570) * 38}.jsonl"),
        (f"a{chr(0x1F600) * 100}", f"a{chr(0x1F600) * 29}"),
    ],
)
def test_names_of_files_are_plain(given: str, kept: str) -> None:
    assert plain_name(given) == kept
