"""The store on disk gives back exactly what was written, or does not exist."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.store.arrow import ExampleStore, ExampleWriter
from llm_installer.data.store.keys import prompt_key, row_key

ROOT = Path(__file__).parents[3]
CALL = '[{"type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 1}"}}]'
AWKWARD = [
    Example((Message("user", "hi"), Message("assistant", "hello")), Origin("a.jsonl", line=1)),
    Example((Message("user", ""), Message("assistant", "")), Origin("", record=7), "completion"),
    Example((Message("assistant", "\U0001f600 \u00e9\u4f60\x00\r\n\t\"'\\\x1e"),), Origin("b \u00fc.txt", 2), "text"),
    Example(
        (
            Message("system", "You add."),
            Message("user", "1+1?"),
            Message("assistant", "", CALL),
            Message("tool", "2"),
            Message("assistant", "It is 2."),
        ),
        Origin("tools.json", record=3),
        tools='[{"name": "add"}]',
    ),
    Example(
        (Message("user", "<image><image> which?"), Message("assistant", "the left")),
        Origin("v.json", line=2**40),
        images=("a/1.jpg", "/b/\u4f60.png"),
    ),
    Example((), Origin("none")),
]


def write(path: Path, examples) -> ExampleStore:
    with ExampleWriter(path) as writer:
        for example in examples:
            writer.append(example)
    return ExampleStore(path)


def test_everything_comes_back_as_it_was(tmp_path):
    store = write(tmp_path / "x.arrow", AWKWARD)
    assert list(store) == AWKWARD
    assert store.prompt_keys().tolist() == [prompt_key(e) for e in AWKWARD]
    assert store.row_keys().tolist() == [row_key(e) for e in AWKWARD]


def test_many_batches_with_files_of_their_own(tmp_path):
    def row(i: int) -> Example:
        turns = [Message("user", f"q{i}")] * (i % 4) + [Message("assistant", "a" * (i % 9))]
        return Example(tuple(turns), Origin(f"{i // 5000}.jsonl", line=i + 1), images=("i.png",) * (i % 3))

    store = write(tmp_path / "x.arrow", map(row, range(20_000)))
    assert len(store) == 20_000
    assert all(store[i] == row(i) for i in (0, 8191, 8192, 9999, 10_000, 16_384, 19_999))
    assert store[-1] == row(19_999)
    assert len(set(store.row_keys().tolist())) > 10_000
    for outside in (20_000, -20_001):
        with pytest.raises(IndexError):
            store[outside]


def test_long_rows_are_written_before_they_fill_the_memory(tmp_path):
    import pyarrow as pa

    long = Example((Message("assistant", "a" * 9_000_000),), Origin("f"), "text")
    store = write(tmp_path / "x.arrow", [long] * 3)
    assert list(store) == [long] * 3
    assert pa.ipc.open_file(str(store.path)).num_record_batches == 2


def test_views_are_lazy_and_keep_their_order(tmp_path):
    store = write(tmp_path / "x.arrow", AWKWARD)
    view = store.select(np.array([4, 0, 4]))
    assert list(view) == [AWKWARD[4], AWKWARD[0], AWKWARD[4]]
    assert list(view[1:]) == [AWKWARD[0], AWKWARD[4]]
    assert list(store[1:3]) == AWKWARD[1:3]
    assert view[-1] == AWKWARD[4]
    with pytest.raises(IndexError):
        view[3]


def test_an_empty_store(tmp_path):
    store = write(tmp_path / "x.arrow", [])
    assert len(store) == 0 and list(store) == []
    assert store.prompt_keys().dtype == np.uint64


def test_another_process_opens_the_file_itself(tmp_path):
    view = write(tmp_path / "x.arrow", AWKWARD).select(np.arange(2))
    sent = pickle.dumps(view)
    assert len(sent) < 1000
    assert list(pickle.loads(sent)) == AWKWARD[:2]


def test_half_a_surrogate_pair_is_refused_and_leaves_no_trace(tmp_path):
    broken = Example((Message("user", "ok"), Message("assistant", "\ud83d")), Origin("f"))
    with ExampleWriter(tmp_path / "x.arrow") as writer:
        writer.append(AWKWARD[0])
        with pytest.raises(UnicodeEncodeError):
            writer.append(broken)
        writer.append(AWKWARD[3])
    assert list(ExampleStore(tmp_path / "x.arrow")) == [AWKWARD[0], AWKWARD[3]]


def test_after_an_error_there_is_no_file(tmp_path):
    with pytest.raises(KeyError), ExampleWriter(tmp_path / "x.arrow") as writer:
        writer.append(AWKWARD[0])
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_store(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.store.arrow import ExampleWriter
writer = ExampleWriter(Path({str(tmp_path / "x.arrow")!r}))
for i in range(20_000):
    writer.append(Example((Message("assistant", str(i)),), Origin("f")))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == -9
    assert not (tmp_path / "x.arrow").exists()
    assert list(write(tmp_path / "x.arrow", AWKWARD)) == AWKWARD


@pytest.mark.parametrize("keep", [0, 8, 300, -9])
def test_a_damaged_file_is_named(tmp_path, keep):
    path = write(tmp_path / "x.arrow", AWKWARD).path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"x\.arrow is damaged"):
        ExampleStore(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.arrow"):
        ExampleStore(tmp_path / "gone.arrow")
