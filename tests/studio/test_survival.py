"""Real trainings whose worker or server is killed: each ends completed, with one adapter, as if nothing had been."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from llm_installer.core.json_file import read_object
from llm_installer.studio.store import checker, cleaning
from llm_installer.studio.store.opening import open_store
from tests.generated import many
from tests.tiers import minutes

pytestmark = pytest.mark.slow
OPTIONS = '{"epochs": 15, "skip_test": true, "validation_split": 0.2}'
Start = Callable[..., "subprocess.Popen[str]"]


class House:
    """A studio as a user starts it, which can be killed and started again on its port."""

    def __init__(self, start: Start, home: Path, *words: str) -> None:
        self._start, self._home, self._words, self.port = start, home, words, 0
        self.api = httpx.Client()
        self.begin()

    def begin(self) -> None:
        """Start it, and wait until it answers."""
        self.process = self._start("studio", "--port", str(self.port), *self._words)
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert "http://" in line, self.process.communicate()
        self.port = int(line.rpartition(":")[2])
        self.api.close()
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=60)
        until(lambda: self.asked("/health"))

    def asked(self, path: str) -> dict[str, object] | None:
        """An answer; None while it cannot be reached."""
        try:
            return dict(self.api.get(path).json())
        except httpx.HTTPError:
            return None

    def job(self, data: Path, **more: str) -> str:
        """A new job."""
        form, files = {"model": "tiny-llama", "options": OPTIONS, **more}, {"dataset": (data.name, data.read_bytes())}
        return str(self.api.post("/api/train", data=form, files=files).json()["job_id"])

    def worker(self) -> psutil.Process | None:
        """Its worker."""
        children = psutil.Process(self.process.pid).children()
        return next((one for one in children if "worker" in one.cmdline()), None)

    def end(self) -> None:
        """As Ctrl-C ends it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(120)
        self.api.close()


@pytest.fixture
def house(start: Start, llm_home: Path) -> Iterator[Callable[..., House]]:
    """Starts a studio."""
    houses: list[House] = []

    def begin(*words: str) -> House:
        houses.append(House(start, llm_home, *words))
        return houses[-1]

    yield begin
    for one in houses:
        one.api.close()


def until(true: Callable[[], object], seconds: float = 240) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.1)


def adapter_of(house: House, job: str) -> str:
    found = house.asked(f"/api/jobs/{job}")
    assert found
    files = found["result"]["files"]  # type: ignore[index]
    return next(str(one["sha256"]) for one in files if one["path"].endswith("adapter_model.safetensors"))


def metrics_of(house: House, job: str) -> list[object]:
    found = house.asked(f"/api/jobs/{job}/log")
    assert found
    lines = [one["data"] for one in found["data"] if one["type"] == "metrics"]  # type: ignore[attr-defined]
    found = [(one["step"], one["kind"], one.get("loss"), one.get("validation_loss")) for one in lines]
    return sorted(found, key=str)  # a run writes what it adjusted at the next evaluation or checkpoint


def test_killed_at_random_moments(
    house: Callable[..., House], installed: Path, write_rows: Callable[..., Path]
) -> None:
    studio = house()
    data = write_rows(40)
    undisturbed = studio.job(data)
    until(lambda: (studio.asked(f"/api/jobs/{undisturbed}") or {}).get("state") == "completed")
    dice = random.Random(int(os.environ.get("LLM_SEED", "0")) or time.time_ns())
    job = studio.job(data)
    seen: list[int] = []

    def state() -> dict[str, object]:
        found = studio.asked(f"/api/jobs/{job}") or {}
        seen.append(int(str(found.get("progress", seen[-1] if seen else 0))))
        return found

    for victim in dice.sample(["worker", "studio", "both"], 3):
        aim = dice.randint(1, 60)
        until(lambda aim=aim: state().get("state") == "completed" or int(str(state().get("step", 0))) >= aim)
        worker = studio.worker()
        if victim != "studio" and worker:
            worker.kill()
        if victim != "worker":
            studio.process.kill()
            studio.process.wait()
            studio.begin()
    until(lambda: state().get("state") in ("completed", "failed"))
    assert state()["state"] == "completed", state()
    assert seen == sorted(seen), "progress never fell"
    assert adapter_of(studio, job) == adapter_of(studio, undisturbed)
    assert metrics_of(studio, job) == metrics_of(studio, undisturbed), "every point once"
    runs = [read_object(file) for file in (installed / "runs").glob("*/run.json")]
    assert [run["status"] for run in runs] == ["finished", "finished"]
    studio.end()


@minutes
@pytest.mark.timeout(3600)
def test_many_kills_at_any_moment_and_every_job_ends_well(
    house: Callable[..., House], installed: Path, write_rows: Callable[..., Path], llm_home: Path
) -> None:
    """20 kills, or 60, of a queue of jobs: while they are claimed, prepared, trained, handed in, or nothing is done."""
    studio, seed = house("--lease", "5"), int(os.environ.get("LLM_SEED", "0")) or time.time_ns()
    dice, data, options = random.Random(seed), write_rows(24), '{"epochs": 4, "skip_test": true}'
    waiting: list[str] = []

    def states() -> list[str]:
        return [str((studio.asked(f"/api/jobs/{job}") or {}).get("state")) for job in waiting]

    for kill in range(many(60)):
        if kill % 7 == 0 or not {"queued", "resumable"} & set(states()):
            waiting.append(studio.job(data, options=options))
        aim, done = dice.choice(("any", "any", "training", "uploading")), states().count("completed")
        if aim != "any":
            until(lambda aim=aim, done=done: aim in (now := states()) or now.count("completed") > done)
        time.sleep(dice.uniform(0, 4 if aim == "any" else 0.5))  # the moment of the kill: this waits for nothing
        victim, worker = dice.choice(("worker", "studio", "both")), studio.worker()
        if victim != "studio" and worker:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        if victim != "worker":
            studio.process.kill()
            studio.process.wait()
            studio.begin()
    until(lambda: {"completed"} == set(states()), 300)
    attempts = [studio.asked(f"/api/jobs/{job}")["attempt"] for job in waiting]  # type: ignore[index]
    assert max(attempts) > 1, f"no kill met a job, with LLM_SEED={seed}"
    assert len({adapter_of(studio, job) for job in waiting}) == 1, "of equal jobs equal adapters"
    runs = [read_object(file) for file in (installed / "runs").glob("*/run.json")]
    assert [run["status"] for run in runs] == ["finished"] * len(waiting)
    studio.end()
    store = open_store(llm_home / "studio" / "studio.sqlite3")
    cleaning.sweep(store, llm_home / "studio", 0)
    assert checker.check(store, llm_home / "studio", 0) == [], f"LLM_SEED={seed}"
    store.close()
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(installed) in (one.info["cmdline"] or [])]


@minutes
def test_a_server_that_is_away_for_longer_than_the_lease_finds_the_same_attempt(
    house: Callable[..., House],
    start: Start,
    installed: Path,
    write_rows: Callable[..., Path],
    llm_home: Path,
    tmp_path: Path,
) -> None:
    studio = house("--no-worker", "--lease", "2")
    job = studio.job(write_rows(40))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(llm_home / "models", elsewhere / "models", symlinks=True)
    environment = {**os.environ, "LLM_HOME": str(elsewhere)}
    worker = start("worker", "--server", f"http://127.0.0.1:{studio.port}", "--job", job, env=environment)
    until(lambda: int(str((studio.asked(f"/api/jobs/{job}") or {}).get("step", 0))) >= 5)
    studio.process.kill()
    studio.process.wait()
    time.sleep(6)
    studio.begin()
    until(lambda: (studio.asked(f"/api/jobs/{job}") or {}).get("state") in ("completed", "failed"))
    found = studio.asked(f"/api/jobs/{job}")
    assert found and (found["state"], found["attempt"]) == ("completed", 1), found
    assert worker.wait(60) == 0
    steps = [step for step, kind, *_ in metrics_of(studio, job) if kind == "step"]  # type: ignore[misc]
    assert sorted(steps) == list(range(1, len(steps) + 1)), "no point is missing"
    studio.end()


@minutes
def test_a_frozen_worker_wakes_up_and_changes_nothing(
    house: Callable[..., House],
    start: Start,
    installed: Path,
    write_rows: Callable[..., Path],
    llm_home: Path,
    tmp_path: Path,
) -> None:
    studio = house("--no-worker", "--lease", "3")
    job = studio.job(write_rows(40))
    workers = []
    for name in ("one", "two"):
        home = tmp_path / name
        shutil.copytree(llm_home / "models", home / "models", symlinks=True)
        environment = {**os.environ, "LLM_HOME": str(home)}
        workers.append(start("worker", "--server", f"http://127.0.0.1:{studio.port}", "--job", job, env=environment))
        until(lambda: int(str((studio.asked(f"/api/jobs/{job}") or {}).get("step", 0))) >= 3)
        if name == "one":
            frozen = [psutil.Process(workers[0].pid), *psutil.Process(workers[0].pid).children(recursive=True)]
            for process in frozen:
                process.suspend()
            until(lambda: (studio.asked(f"/api/jobs/{job}") or {}).get("state") == "resumable")
    until(lambda: (studio.asked(f"/api/jobs/{job}") or {}).get("attempt") == 2)
    for process in frozen:
        process.resume()
    assert workers[0].wait(120) == 0, "it hears that it was replaced, and ends"
    until(lambda: (studio.asked(f"/api/jobs/{job}") or {}).get("state") in ("completed", "failed"))
    found = studio.asked(f"/api/jobs/{job}")
    assert found and (found["state"], found["attempt"]) == ("completed", 2), found
    assert not any(process.is_running() for process in frozen)
    assert workers[1].wait(60) == 0
    studio.end()
