"""Encoded data are used again only for the very same examples, tokenizer and template; however they were made."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from llm_installer.core.errors import DataError
from llm_installer.core.home import cache_dir
from llm_installer.data.encoding import encode_cache
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_cache import SMALL, encode
from llm_installer.data.encoding.encode_parallel import encode_to_folder
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.data.store.arrow import ExampleView
from llm_installer.data.store.load import DataRequest, load_examples
from llm_installer.install.tiny import MODEL_DIR

ROOT = Path(__file__).parents[3]


def view(folder: Path, count: int, say: str = "answer") -> ExampleView:
    """Chats of one or two turns, one in a hundred of which most templates refuse."""
    file = folder / f"{say}-{count}.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for i in range(count):
            turns = [("user", f"question {i}"), ("assistant", f"{say} {i}")] * (1 + i % 2)
            if i % 100 == 7:
                turns = [("assistant", f"{say} {i}")]
            lines.write(json.dumps({"messages": [{"role": r, "content": t} for r, t in turns]}) + "\n")
    return load_examples(DataRequest(file.name, base=folder)).train[:]


def encoder(**more: bool) -> Encoder:
    return Encoder(load_tokenizer(MODEL_DIR), **more)


def run(examples: ExampleView, with_encoder: Encoder | None = None) -> EncodedSet:
    return encode(examples, with_encoder or encoder(), lambda done, total: None)[0]


def kept() -> list[Path]:
    folder = cache_dir() / "encoded"
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []


def equal(a: EncodedSet, b: EncodedSet) -> bool:
    columns = ("ids", "supervised", "heads", "starts", "lengths", "counts", "source", "text")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in columns)


def test_the_second_time_nothing_is_encoded(tmp_path):
    examples = view(tmp_path, SMALL)
    told: list[tuple[int, int]] = []
    first, dropped = encode(examples, encoder(), lambda *so_far: told.append(so_far))
    assert told[-1] == (len(examples), len(examples))
    told.clear()
    again, dropped_again = encode(examples, encoder(), lambda *so_far: told.append(so_far))
    assert not told
    assert equal(first, again) and dropped == dropped_again
    assert len(kept()) == 1


@pytest.mark.parametrize("count", [3, SMALL])
def test_the_total_is_told_before_the_first_row(tmp_path, count):
    told = []
    encode(view(tmp_path, count), encoder(), lambda done, total: told.append((done, total)))
    assert told[0] == (0, count)


def test_small_data_are_not_kept(tmp_path):
    assert len(run(view(tmp_path, SMALL - 100))) > 1000
    assert kept() == []


def test_whatever_changes_is_never_served_stale(tmp_path):
    examples = view(tmp_path, SMALL)
    sets = [run(examples)]
    sets.append(run(view(tmp_path, SMALL, "reply")))
    sets.append(run(view(tmp_path, SMALL + 100)[100:]))
    sets.append(run(examples, encoder(train_on_prompt=True)))
    template = load_tokenizer(MODEL_DIR)
    template.chat_template = "Chat: " + template.chat_template
    sets.append(run(examples, Encoder(template)))
    token = load_tokenizer(MODEL_DIR)
    token.add_tokens(["answer 1"])
    sets.append(run(examples, Encoder(token)))
    assert len(kept()) == len(sets) == 6
    assert [(i, j) for i, a in enumerate(sets) for j, b in enumerate(sets[:i]) if equal(a, b)] == []


def test_a_template_that_writes_the_date_is_rendered_anew(tmp_path):
    tokenizer = load_tokenizer(MODEL_DIR)
    dated = "{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}" + tokenizer.chat_template
    tokenizer.chat_template = dated
    examples = view(tmp_path, SMALL)
    run(examples, Encoder(tokenizer))
    run(examples, Encoder(tokenizer))
    assert len(kept()) == 2


def test_a_damaged_result_is_made_again(tmp_path):
    """And what was made again is kept, for the next damage is done to that."""
    examples = view(tmp_path, SMALL)
    before = encode(examples, encoder(), lambda done, total: None)
    copy = EncodedSet.of(list(before[0]))
    for name in ("ids.int32", "supervised.bool", "rows.int64", "refused.jsonl", "whole.json"):
        for damage in (b"", b"garbage", None):
            (folder,) = kept()
            (folder / name).unlink()
            if damage is not None:
                (folder / name).write_bytes(damage)
            again = encode(examples, encoder(), lambda done, total: None)
            assert equal(copy, again[0]) and before[1] == again[1], (name, damage)


def test_any_number_of_processes_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("llm_installer.data.encoding.encode_parallel._SHARD", 700)
    tokenizer = load_tokenizer(MODEL_DIR)
    tokenizer.chat_template = (
        "{% if messages[0].role == 'assistant' %}{{ raise_exception('must alternate') }}{% endif %}"
        + (tokenizer.chat_template)
    )
    with_encoder = Encoder(tokenizer)
    examples = view(tmp_path, 3000)[::-1]
    expected, dropped = encode_cache.encode_all(examples, with_encoder)
    assert len(dropped) == 30
    for processes in (1, 3):
        folder = tmp_path / f"by {processes}"
        folder.mkdir()
        told: list[int] = []
        encode_to_folder(examples, with_encoder, folder, lambda done, total, told=told: told.append(done), processes)
        assert equal(EncodedSet.load(folder), expected), processes
        assert encode_cache._dropped(folder, examples) == dropped, processes
        assert told == sorted(told) and told[-1] == 3000, processes
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["ids.int32", "refused.jsonl", "rows.int64", "supervised.bool"], processes


def test_a_process_that_ends_early_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("llm_installer.core.workers._PROGRAM", "import os; os._exit(3)")
    with pytest.raises(DataError, match=r"ended \(exit code 3"):
        encode_to_folder(view(tmp_path, 100), encoder(), tmp_path, lambda done, total: None, 2)


def test_a_place_that_cannot_be_written_is_named(tmp_path, llm_home):
    examples = view(tmp_path, SMALL)
    (cache_dir() / "encoded").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"cannot be kept in .*encoded \(.*\); make room there"):
        run(examples)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path):
    """In bytes that Python and numpy hold; what is mapped from files does not count."""
    with_encoder, peaks = encoder(), []
    for count in (1_500, 1_500, 6_000):
        examples, folder = view(tmp_path, count), tmp_path / f"out-{len(peaks)}"
        folder.mkdir()
        tracemalloc.start()
        encode_to_folder(examples, with_encoder, folder, lambda done, total: None, 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 2 * peaks[1]


KILLED = """
import sys
from pathlib import Path
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.data.encoding.encode_cache import encode
from llm_installer.data.store.arrow import ExampleStore
examples = ExampleStore(Path(sys.argv[1]))[:]
encode(examples, Encoder(load_tokenizer(Path(sys.argv[2]))), lambda done, total: done and print(done, flush=True))
"""


@pytest.mark.slow
def test_killed_while_encoding_then_again(tmp_path):
    """Killed when its processes have begun to write: they end too, the next run makes it all and tidies up."""
    examples = view(tmp_path, 24_000)
    program = [sys.executable, "-c", KILLED, str(examples.store.path), str(MODEL_DIR)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"4000\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert kept() == []
    folder = cache_dir() / "encoded"
    assert list(folder.glob(".unfinished-*"))
    found = run(examples)
    expected, _ = encode_cache.encode_all(examples, encoder())
    assert equal(found, expected)
    assert len(kept()) == 1
    deadline = time.monotonic() + 30
    while list(folder.glob(".unfinished-*")):
        assert time.monotonic() < deadline
        run(view(tmp_path, SMALL))
