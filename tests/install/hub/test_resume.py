"""An interrupted download resumes where it stopped, and never mixes two versions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_installer.install.download import Meter, Stopped

Run = Callable[..., Any]


def big(served: Any, content: Callable[..., dict[str, bytes]]) -> bytes:
    """Make the weights larger than what fits into one packet."""
    served.repos["org/name"].files |= content(values=500_000)
    data: bytes = served.repos["org/name"].files["model.safetensors"]
    return data


def test_a_broken_download_resumes_where_it_stopped(
    served: Any, content: Callable[..., dict[str, bytes]], home: Path, quick_install: Run
) -> None:
    data = big(served, content)
    served.break_after = 1_000_000
    ended = quick_install("org/name")
    assert ended.code == 1 and "run the same command again to resume it" in ended.error
    assert os.listdir(home / "models") == [".org_name.installing"]
    served.break_after = None
    assert quick_install("org/name").code == 0
    first, second = served.got("model.safetensors")
    assert (first.range, second.range) == ("", "bytes=1000000-")
    assert first.sent + second.sent == len(data)
    assert len(served.got("tokenizer.json")) == 1
    assert (home / "models" / "org_name" / "model" / "model.safetensors").read_bytes() == data


def test_a_connection_that_breaks_once_is_tried_again_at_once(
    served: Any, content: Callable[..., dict[str, bytes]], home: Path, quick_install: Run
) -> None:
    data = big(served, content)
    served.break_once = 1_000_000
    assert quick_install("org/name").code == 0
    assert [s.range for s in served.got("model.safetensors")] == ["", "bytes=1000000-"]
    assert (home / "models" / "org_name" / "model" / "model.safetensors").read_bytes() == data


def test_a_hub_without_ranges_is_asked_for_all_of_it(
    served: Any, content: Callable[..., dict[str, bytes]], home: Path, quick_install: Run
) -> None:
    data = big(served, content)
    served.break_once, served.ranges = 1_000_000, False
    assert quick_install("org/name").code == 0
    assert [s.sent for s in served.got("model.safetensors")] == [1_000_000, len(data)]
    assert (home / "models" / "org_name" / "model" / "model.safetensors").read_bytes() == data


@pytest.fixture
def hanging(
    served: Any, content: Callable[..., dict[str, bytes]], home: Path, start_install: Run
) -> subprocess.Popen[str]:
    """A download that has a million bytes of its weights and gets no more."""
    big(served, content)
    served.hang_after = 1_000_000
    process: subprocess.Popen[str] = start_install("org/name", served.url)
    part = home / "models" / ".org_name.installing" / "parts" / "model.safetensors.part"
    assert served.hanging.wait(30)
    wait_for(lambda: part.is_file() and part.stat().st_size > 900_000)
    return process


def test_a_killed_download_resumes_where_it_stopped(
    served: Any, hanging: subprocess.Popen[str], home: Path, quick_install: Run
) -> None:
    os.kill(hanging.pid, signal.SIGKILL)
    hanging.communicate()
    part = home / "models" / ".org_name.installing" / "parts" / "model.safetensors.part"
    kept = part.stat().st_size
    served.hang_after = None
    assert quick_install("org/name").code == 0
    assert served.got("model.safetensors")[-1].range == f"bytes={kept}-"


def test_ctrl_c_ends_with_words_and_keeps_what_came(served: Any, hanging: subprocess.Popen[str], home: Path) -> None:
    os.kill(hanging.pid, signal.SIGINT)
    served.released.set()
    output, _ = hanging.communicate(timeout=60)
    assert hanging.returncode == 128 + signal.SIGINT
    assert "ERROR Interrupted The download of org/name was interrupted" in output
    part = home / "models" / ".org_name.installing" / "parts" / "model.safetensors.part"
    assert part.stat().st_size > 900_000


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_parts_of_another_commit_are_not_mixed_in(
    served: Any, content: Callable[..., dict[str, bytes]], home: Path, quick_install: Run
) -> None:
    big(served, content)
    served.break_after = 1_000_000
    assert quick_install("org/name").code == 1
    served.break_after = None
    moved = served.repos["org/name"]
    moved.commit, moved.files = "b" * 40, {**moved.files, **content(values=500_000, fill=7)}
    ended = quick_install("org/name")
    assert ended.code == 0 and "is deleted" in ended.output
    assert served.got("model.safetensors")[-1].range == ""
    assert (home / "models" / "org_name" / "model" / "model.safetensors").read_bytes()[-1] == 7
    assert json.loads((home / "models" / "org_name" / "model_info.json").read_text())["revision"] == "b" * 40


def test_when_one_file_fails_the_others_stop() -> None:
    meter = Meter(lambda _: None, total=10)
    meter.downloaded(1)
    meter.pause(0)
    meter.stop()
    with pytest.raises(Stopped):
        meter.downloaded(1)
    with pytest.raises(Stopped):
        meter.pause(60)
