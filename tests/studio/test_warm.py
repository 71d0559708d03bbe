"""The process that has torch in memory answers as one does that is started from nothing, and nobody depends on it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from llm_installer.install.installer import install
from llm_installer.studio import insight
from llm_installer.studio.insight import Limits
from llm_installer.studio.plain import Json
from llm_installer.studio.warm import Away, Warm
from tests.tiers import minutes

ROWS = b"input,output\n" + b"".join(b"question %d,answer %d\n" % (n, n) for n in range(30))


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Warm]:
    found = Warm()
    monkeypatch.setattr(insight, "WARM", found)
    yield found
    found.end()


@pytest.fixture
def data(tmp_path: Path, llm_home: Path) -> Path:
    install("tiny", say=lambda text: None)
    file = tmp_path / "data.csv"
    file.write_bytes(ROWS)
    return file


@pytest.mark.slow
@minutes
def test_it_answers_as_a_fresh_one_does(warm: Warm, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = insight.plan(data, "tiny", {"epochs": 2})
    process = warm.process
    assert found["model"]["name"] == "tiny" and process and process.poll() is None  # type: ignore[index]
    assert (
        insight.plan(data, "tiny", {"epochs": "abc"})["error"] == "Invalid value for '--epochs': 'abc' is not a number"
    )
    assert "data" in insight.dataset(data, "tiny")["files"][0]["name"]  # type: ignore[index]
    assert warm.process is process, "one answers all of them"
    monkeypatch.setattr(insight, "_run_warm", insight._run)
    fresh = insight.plan(data, "tiny", {"epochs": 2})
    assert _without_what_is_free(found) == _without_what_is_free(fresh)


def _without_what_is_free(plan: Json) -> str:
    """A plan as text, without how much memory there is just now."""
    left = {name: value for name, value in plan.items() if name not in ("memory", "machine")}
    return re.sub(r" of [\d.]+ GiB", "", json.dumps(left, sort_keys=True))


@pytest.mark.slow
def test_its_children_have_their_limits(warm: Warm, data: Path) -> None:
    with TemporaryFile() as out, TemporaryFile() as said:
        words = ["data", data.name, "--model", "tiny", "--json"]
        question = {"words": words, "folder": str(data.parent), "limits": [6 << 30, 1]}
        child = warm.ask({**question, "limits": [64 << 20, 60]}, out.fileno(), said.fileno())
        assert child.wait(120) != 0, "64 MB are less than what it has already"
        child.close()
        child = warm.ask(question, out.fileno(), said.fileno())
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0)
        child.wait(60)
        child.close()
    found = insight.asked(["data", data.name, "--model", "tiny", "--json"], data.parent, Limits(6 << 30, 60), True)
    assert "error" not in found


@pytest.mark.slow
@minutes
def test_where_it_is_gone_a_fresh_one_answers(warm: Warm, data: Path) -> None:
    warm.start()
    assert warm.process
    os.kill(warm.process.pid, signal.SIGSTOP)
    pid, line = warm.process.pid, warm.line
    with TemporaryFile() as out:
        child = warm.ask({"words": [], "folder": "/", "limits": [0, 0]}, out.fileno(), out.fileno())
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Away):
            child.wait(60)
        child.close()
    assert "error" not in insight.plan(data, "tiny", {})
    assert warm.line is not line


def test_a_start_that_fails_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started with a variable of so many bytes."""
    monkeypatch.setenv("LLM_TEST_LONG", "x" * (1 << 20))
    warm, before = Warm(), os.listdir("/proc/self/fd")
    for _ in range(2):
        with pytest.raises(OSError, match="too long"):
            warm.start()
        with pytest.raises(Away):
            warm.ask({}, 1, 2)
    with pytest.raises(TypeError):
        warm.ask({"words": object()}, 1, 2)
    assert os.listdir("/proc/self/fd") == before and warm.line is warm.process is None


@pytest.mark.slow
def test_it_ends_with_whoever_started_it(warm: Warm) -> None:
    warm.start()
    assert warm.process and warm.line
    warm.line.close()
    ends = time.monotonic() + 60
    while warm.process.poll() is None:
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert warm.process.returncode == 0
