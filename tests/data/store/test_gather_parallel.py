"""A big file of lines, converted by several processes, gives what one process gives: rows, places, reasons, errors."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.store import gather_parallel
from llm_installer.data.store.gather import ACCOUNT
from llm_installer.data.store.load import DataRequest, Loaded, load_examples

ROOT = Path(__file__).parents[3]
ROWS = 3_000


def left(folder: Path) -> list[Path]:
    """What is in the cache beside its lock."""
    return [path for path in (folder / "work").iterdir() if path.name != ".lock"]


def by(monkeypatch, cores: int) -> None:
    """By so many processes, each sent a block at a time."""
    monkeypatch.setattr(gather_parallel, "cores", lambda: cores)
    monkeypatch.setattr(gather_parallel, "_PAYS", 1)
    monkeypatch.setattr(gather_parallel, "_CHUNK", 1)


@pytest.fixture(params=["one", "several"])
def processes(request, monkeypatch):
    by(monkeypatch, 2 if request.param == "several" else 1)
    return request.param


def record(number: int) -> object:
    """Mostly alpaca, with a bit of everything else that may happen to a row."""
    said = f"answer {number} " + "water " * 20
    odd = {
        11: {"instruction": f"q {number}", "output": ""},
        23: {"messages": [{"role": "user", "content": f"m {number}"}, {"role": "assistant", "content": said}]},
        37: {"image": "gone.png", "caption": said},
        41: {"foo": number, "bar": 1},
        53: {"message_id": str(number), "parent_id": None, "role": "prompter", "text": f"root {number}"},
        54: {"message_id": str(number), "parent_id": str(number - 1), "role": "assistant", "text": said},
        61: {"instruction": "the same", "output": "every time"},
        71: {"id": 2**70, "instruction": f"big {number}", "output": said},
        83: {"prompt": f"p \u4f60\u597d {number}", "completion": said},
    }
    return odd.get(number % 97, {"instruction": f"q {number}", "input": "", "output": said})


def text(rows: int = ROWS) -> str:
    lines = [json.dumps(record(number), ensure_ascii=number % 2 == 0) for number in range(rows)]
    for place in random.Random(0).sample(range(rows), 50):
        lines[place] += "\n  "
    return "\n".join(lines) + "\n"


def summary(loaded: Loaded) -> tuple[object, ...]:
    account = (loaded.train.path.parent / ACCOUNT).read_text()
    rows = list(loaded.train)
    return rows, account, loaded.dropped_file.read_text(), loaded.reasons, loaded.files, loaded.warnings


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "gz", "cr"])
def test_the_same_comes_out(tmp_path, form, monkeypatch):
    content = text()
    name = "my.jsonl.gz" if form == "gz" else "my.jsonl"
    if form == "cr":
        content = content.replace("\n", "\r")
    data = gzip.compress(content.encode()) if form == "gz" else content.encode("utf-8" if form == "cr" else form)
    (tmp_path / name).write_bytes(data)
    found = []
    for cores in (1, 3):
        by(monkeypatch, cores)
        loaded = load_examples(DataRequest(name, base=tmp_path), tmp_path / str(cores))
        found.append((summary(loaded), loaded.train.prompt_keys(), loaded.train.row_keys()))
    (one, *keys), (several, *keys_too) = found
    assert one == several
    assert all(map(np.array_equal, keys, keys_too))
    assert len(one[0]) > ROWS * 0.9 and len(one[4]) == 1 and one[4][0].unknown == 31


def test_it_is_really_shared_out(tmp_path, processes, monkeypatch):
    (tmp_path / "my.jsonl").write_text(text(300))
    monkeypatch.setattr("llm_installer.core.workers._PROGRAM", "import os; os._exit(9)")
    if processes == "one":
        assert len(load_examples(DataRequest("my.jsonl", base=tmp_path), tmp_path / "work").train) > 200
    else:
        with pytest.raises(DataError, match=r"A process that worked on the data ended \(exit code 9"):
            load_examples(DataRequest("my.jsonl", base=tmp_path), tmp_path / "work")
        assert left(tmp_path) == []


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("place", "broken", "message"),
    [
        (2_500, b'{"instruction": "q", "output": "a"', "my.jsonl:2501"),
        (2_500, b'{"instruction": "caf\xe9", "output": "a"}', "my.jsonl:2501: not UTF-8"),
        (2_500, b'{"instruction": "a", "instruction": "b", "output": "a"}', "my.jsonl"),
        (5, b'{"instruction": "q\0", "output": "a"}', "my.jsonl:6"),
    ],
)
def test_errors_name_the_same_place(tmp_path, monkeypatch, place, broken, message, strict):
    lines = [json.dumps({"instruction": f"q {i}", "output": "water " * 40}).encode() for i in range(ROWS)]
    lines[place] = broken
    if strict:
        lines[2_490] = json.dumps({"instruction": "q", "output": ""}).encode()
        message = "my.jsonl:2491: output is empty" if place > 2_490 else message
    (tmp_path / "my.jsonl").write_bytes(b"\n".join(lines))
    said = []
    for cores in (1, 2):
        by(monkeypatch, cores)
        with pytest.raises(DataError, match=message) as raised:
            load_examples(DataRequest("my.jsonl", base=tmp_path, strict=strict), tmp_path / "work")
        assert left(tmp_path) == [], "a refused dataset leaves nothing behind"
        said.append(str(raised.value))
    assert said[0] == said[1]


def test_a_packed_file_that_is_cut_off(tmp_path, processes):
    data = gzip.compress(text().encode())
    (tmp_path / "my.jsonl.gz").write_bytes(data[:-200])
    with pytest.raises(DataError, match="compressed data ends too early"):
        load_examples(DataRequest("my.jsonl.gz", base=tmp_path), tmp_path / "work")


@pytest.mark.parametrize("forced", ["alpaca", "oasst"])
def test_a_named_format_is_known_to_the_others(tmp_path, processes, forced):
    (tmp_path / "my.jsonl").write_text(text(3000))
    loaded = load_examples(DataRequest("my.jsonl", base=tmp_path, dataset_format=forced), tmp_path / "work")
    assert list(loaded.files[0].formats) == [forced]
    assert loaded.files[0].unknown and len(loaded.train)


INTERRUPTED = """
import sys
from pathlib import Path
from llm_installer.data.store import gather_parallel
gather_parallel._PAYS = gather_parallel._CHUNK = 1
gather_parallel.cores = lambda: 2
parallel_map = gather_parallel.parallel_map
def told(*given):
    for number, answer in enumerate(parallel_map(*given)):
        if number == 1:
            print("begun", flush=True)
        yield answer
gather_parallel.parallel_map = told
from llm_installer.data.store.load import DataRequest, load_examples
try:
    load_examples(DataRequest("my.jsonl", Path(sys.argv[1])), Path(sys.argv[1]) / "work")
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.slow
def test_interrupted_or_killed(tmp_path, how, monkeypatch):
    """No process stays behind, and what was begun is cleared away, at once or by the next run."""
    (tmp_path / "my.jsonl").write_text(text(30_000))
    program = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(how)
        # To the end of a pipe that every one of the processes holds.
        _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how), said
    if how == signal.SIGINT:
        assert not said and left(tmp_path) == []
    by(monkeypatch, 1)
    assert len(load_examples(DataRequest("my.jsonl", base=tmp_path), tmp_path / "work").train) > 20_000
    assert len(left(tmp_path)) == 1
