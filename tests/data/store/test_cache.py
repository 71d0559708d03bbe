"""Converted data are used again only when they are whole and made from the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from llm_installer.core.errors import DataError
from llm_installer.data.store.load import DataRequest, Loaded, load_examples

ROOT = Path(__file__).parents[3]


def alpaca(number: int) -> dict[str, str]:
    return {"instruction": f"question {number}", "output": f"answer {number}"}


def write(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def load(folder: Path, data: str = "my.jsonl", **more) -> Loaded:
    return load_examples(DataRequest(data, base=folder, **more), folder / "work")


def converted(folder: Path) -> list[Path]:
    return [path for path in (folder / "work").iterdir() if not path.name.startswith(".")]


def test_the_second_time_nothing_is_converted(tmp_path):
    write(tmp_path / "my.jsonl", *map(alpaca, range(50)))
    first = load(tmp_path)
    stamp = first.train.path.stat().st_mtime_ns
    assert load(tmp_path).train.path.stat().st_mtime_ns == stamp
    assert load(tmp_path, strict=True).train.path.stat().st_mtime_ns == stamp
    assert len(converted(tmp_path)) == 1


def test_a_changed_file_is_never_served_stale(tmp_path):
    """Same name, same size, same time: only the content tells."""
    file = write(tmp_path / "my.jsonl", alpaca(1))
    stat = file.stat()
    assert load(tmp_path).train[0].messages[1].content == "answer 1"
    write(file, alpaca(2))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    assert load(tmp_path).train[0].messages[1].content == "answer 2"


@pytest.mark.parametrize("more", [{"dataset_format": "qa"}, {"columns": "prompt=question,answer=answer"}])
def test_options_have_results_of_their_own(tmp_path, more):
    write(tmp_path / "my.jsonl", {"question": "a", "answer": "b", "image": None})
    load(tmp_path)
    load(tmp_path, **more)
    assert len(converted(tmp_path)) == 2


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
@pytest.mark.parametrize("name", ["train.arrow", "account.json", "whole.json", "dropped.jsonl"])
def test_a_damaged_cache_is_made_again(tmp_path, name, damage):
    write(tmp_path / "my.jsonl", alpaca(1), {"instruction": "q", "output": ""})
    before = list(load(tmp_path).train)
    (folder,) = converted(tmp_path)
    if damage is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(damage)
    again = load(tmp_path)
    assert list(again.train) == before
    assert again.dropped_count == len(again.dropped) == 1


def test_one_flipped_bit_is_found(tmp_path):
    write(tmp_path / "my.jsonl", *map(alpaca, range(50)))
    path = load(tmp_path).train.path
    data = bytearray(path.read_bytes())
    data[data.index(b"answer 7")] ^= 1
    path.write_bytes(data)
    assert load(tmp_path).train[7].messages[1].content == "answer 7"


def test_an_image_that_appears_later_is_seen(tmp_path):
    write(tmp_path / "my.jsonl", alpaca(1), {"image": "a.png", "caption": "a cat"})
    loaded = load(tmp_path)
    assert loaded.reasons == {f"the image {tmp_path / 'a.png'} does not exist": 1}
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    again = load(tmp_path)
    assert again.dropped_count == 0
    assert again.train[1].images == (str(tmp_path / "a.png"),)


KILLED = """
import sys, threading, time, os, signal
from pathlib import Path
from llm_installer.data.store.load import DataRequest, load_examples
print("ready", flush=True)
load_examples(DataRequest("my.jsonl", Path(sys.argv[1])), Path(sys.argv[1]) / "work")
print("done", flush=True)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", KILLED, str(folder)]
    return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_while_writing_then_again(tmp_path):
    """Killed as soon as the first batch is on disk: the next run finds no cache, makes it whole, and tidies up."""
    write(tmp_path / "my.jsonl", *map(alpaca, range(60_000)))
    with start(tmp_path) as process:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in (tmp_path / "work").glob(".unfinished-*/.train.arrow.*")):
            assert process.poll() is None and time.monotonic() < deadline
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert converted(tmp_path) == []
    assert list((tmp_path / "work").glob(".unfinished-*"))
    loaded = load(tmp_path)
    assert len(loaded.train) == 60_000
    assert list((tmp_path / "work").glob(".unfinished-*")) == []


def test_writers_at_the_same_time_do_not_hurt_each_other(tmp_path):
    write(tmp_path / "my.jsonl", *map(alpaca, range(20_000)))
    processes = [start(tmp_path) for _ in range(3)]
    for process in processes:
        with process:
            assert process.communicate(timeout=60)[0].split() == ["ready", "done"]
            assert process.returncode == 0
    assert len(load(tmp_path).train) == 20_000
    assert len(converted(tmp_path)) == 1
    assert list((tmp_path / "work").glob(".unfinished-*")) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    write(tmp_path / "my.jsonl", alpaca(1))
    (tmp_path / "work").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"cannot be kept in .*work \(.*\); make room there, or set LLM_HOME"):
        load(tmp_path)


def test_what_nobody_used_for_a_month_goes_and_the_rest_stays(tmp_path):
    folders = []
    for number, days in enumerate((40, 20, 40)):
        write(tmp_path / "my.jsonl", alpaca(number))
        folders.append(load(tmp_path).train.path.parent)
        os.utime(folders[-1], (time.time() - days * 86400,) * 2)
    assert load(tmp_path).train.path.parent == folders[2], "used again just now"
    write(tmp_path / "my.jsonl", alpaca(3))
    load(tmp_path)
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_a_file_whose_name_is_no_text(tmp_path):
    name = os.fsdecode(b"caf\xe9.jsonl")
    write(tmp_path / name, alpaca(1), {"instruction": "q", "output": ""})
    loaded = load(tmp_path, name)
    assert loaded.train[0].origin.file == loaded.dropped[0].origin.file == name
