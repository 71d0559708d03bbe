"""Whatever bytes a data file holds: examples, an account of what was skipped, or one error of ours; nothing else.

FUZZ_SECONDS=600 pytest -m slow tests/data/test_fuzz.py goes on for ten minutes, with new seeds.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from llm_installer.core.errors import InstallerError
from llm_installer.data.formats import FORMATS
from llm_installer.data.splitting import split
from llm_installer.data.store.load import DataRequest, load_examples
from tests.tiers import minutes

ROWS: list[dict[str, Any]] = [
    {"prompt": "What?", "completion": "That."},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "caf\u00e9 \U0001f600"}]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "tools": '[{"name": "f"}]'},
    {"instruction": "a", "input": "", "output": "b", "history": [["x", "y"]]},
    {"question": "a", "answers": {"text": ["b"]}, "context": "c"},
    {"paragraphs": [{"context": "c", "qas": [{"question": "a", "answers": [{"text": "b"}]}]}]},
    {"prompt": "a", "functions": [], "function_call": {"name": "f", "arguments": {"x": 1}}},
    {"message_id": "1", "parent_id": None, "role": "prompter", "text": "a"},
    {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "b", "rank": 0},
    {"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c"},
    {"prompt": "a", "completion": "b", "label": True},
    {"text": "Once upon a time"},
    {"image": "a.png", "question": "a", "answer": "b"},
]
KEYS = sorted({key for row in FORMATS for shape in row.required for key in shape})
KEYS += [
    "role",
    "content",
    "from",
    "value",
    "type",
    "name",
    "arguments",
    "tool_calls",
    "images",
    "tools",
    "system",
    "data",
]
KEYS += ["history", "train", "validation", "columns", "rank", "lang", "replies", "weight", "function", "0", ""]
WORDS = [
    "",
    " ",
    "user",
    "assistant",
    "system",
    "tool",
    "gpt",
    "function_call",
    "<image>",
    "[",
    "[]",
    "{}",
    "null",
    "nan",
]
WORDS += [
    '{"name": "f", "arguments": {"a": NaN}}',
    '[{"role": "user", "content": "\\ud83d"}]',
    "[" * 2000,
    "image",
    "text",
]
WORDS += ["http://[", "~nobody/a.png", "a" * 300, "file://%00", "python", "data:", "True", "9" * 5000]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(WORDS)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
records = st.dictionaries(st.sampled_from(KEYS), values, max_size=5) | values


@st.composite
def altered_rows(draw: st.DrawFn) -> Any:
    """A sound row in which something, somewhere, is something else."""
    row = json.loads(json.dumps(draw(st.sampled_from(ROWS))))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = row
        while True:
            keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            place[key] = draw(values)
            break
    return row


def packed_zip(name: str, content: bytes, method: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        archive.writestr(name, content)
        archive.writestr("other.txt", "b\nc\n")
    return sink.getvalue()


def parquet() -> bytes:
    sink = io.BytesIO()
    table = {"prompt": ["a", "b"], "completion": ["c", None], "tools": [[{"name": "f"}], []], "rank": [1.5, None]}
    pq.write_table(pa.table(table), sink)
    return sink.getvalue()


LINES = "".join(json.dumps(row) + "\n" for row in ROWS[:4]).encode()
FILES: dict[str, bytes] = {
    "a.jsonl": LINES,
    "a.json": json.dumps({"train": ROWS[:2], "validation": ROWS[:1]}).encode(),
    "a.csv": b'prompt,completion\na,"b\nc"\n"d ""e""",f\n',
    "a.tsv": b"prompt\tcompletion\na\tb\n",
    "a.txt": "one\ntwo \u00e9\r\nthree\n".encode(),
    "a.md": b"# A\n\ntext\n",
    "a.yaml": yaml.safe_dump(ROWS[:5]).encode() + b"- &a {<<: {text: a}, b: !!int 3}\n- *a\n",
    "a.toml": b'[[data]]\nprompt = "a"\ncompletion = 2024-01-01\n[[data]]\ntext = """b"""\nx = 0x1f\n',
    "a.xml": b"<?xml version='1.0'?><d><r><prompt>a &amp; b</prompt><completion>c</completion></r><r text='a'/></d>",
    "a.parquet": parquet(),
    "a.jsonl.gz": gzip.compress(LINES, mtime=0),
    "a.zip": packed_zip("a.jsonl", LINES, zipfile.ZIP_DEFLATED),
    "b.zip": packed_zip("a.csv", b"prompt,completion\na,b\n" * 9, zipfile.ZIP_LZMA),
    "c.zip": packed_zip("a.txt", b"a\n" * 9, zipfile.ZIP_BZIP2),
}
TOKENS = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r",
    b"\n",
    b'"',
    b"'",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
]
TOKENS += [
    b"<<: *a",
    b"!!int ",
    b"!!bool ",
    b"!!timestamp ",
    b"!!set ",
    b"!!map ",
    b"? ",
    b"- ",
    b": ",
    b"|",
    b"<!--",
    b"]]>",
]
TOKENS += [
    b"&#xD800;",
    b"\\ud83d",
    b"NaN",
    b"1e999",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b";",
    b"\t",
]


@st.composite
def altered_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A small sound file of any kind with bytes changed, cut out or put in."""
    name = draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[name])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["change", "cut", "insert", "repeat", "end"])):
            case "change" if at < len(content):
                content[at] = draw(st.integers(0, 255))
            case "cut":
                del content[at : at + draw(st.integers(1, 16))]
            case "insert":
                content[at:at] = draw(st.sampled_from(TOKENS))
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 40))] * draw(st.integers(1, 3))
            case "end":
                del content[at:]
    return name, bytes(content)


def survives(name: str, content: bytes) -> None:
    """Read a file of these bytes: our errors alone may come out, and what is accepted adds up."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        try:
            loaded = load_examples(DataRequest(name, base=Path(folder)), Path(folder) / "work")
        except InstallerError as error:
            message = str(error)
            assert message, "an error without words"
            message.encode()
            return
        accepted = len(loaded.train) + (len(loaded.validation) if loaded.validation else 0)
        assert accepted == sum(file.examples for file in loaded.files)
        assert loaded.dropped_count == sum(file.dropped for file in loaded.files)
        keys = loaded.train.prompt_keys()
        parts = split(keys, loaded.train.row_keys(), validation_split=0.3, seed=0, max_examples=None)
        assert not np.isin(keys[parts.validation], keys[parts.train]).any()
        assert len(parts.train) + len(parts.validation) + parts.duplicates == len(loaded.train)
        for example in (*loaded.train, *(loaded.validation or ())):
            last = example.messages[-1]
            assert last.role == "assistant" and (last.content.strip() or last.tool_calls)
            for text in (example.tools, *(turn.tool_calls for turn in example.messages)):
                assert not text or isinstance(json.loads(text, parse_constant=pytest.fail), list)


def as_lines(rows: list[Any]) -> None:
    survives("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def as_document(document: Any) -> None:
    survives("a.json", json.dumps(document).encode())


KINDS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    "records": (st.lists(records, min_size=1, max_size=2), as_lines),
    "documents": (values, as_document),
    "altered rows": (st.lists(altered_rows(), min_size=1, max_size=3), as_lines),
    "altered files": (altered_files(), lambda file: survives(*file)),
}
CALM = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def fuzz(kind: str, number: int, count: int) -> None:
    strategy, run = KINDS[kind]

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=CALM)
    @given(strategy)
    def fuzzed(drawn: Any) -> None:
        run(drawn)

    fuzzed()


@pytest.mark.parametrize("kind", KINDS)
def test_only_our_errors_come_out(kind: str) -> None:
    fuzz(kind, 1, 40)


@minutes
@pytest.mark.slow
def test_for_a_long_time() -> None:
    end = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "60"))
    each, cases = 50, 0
    for number, kind in enumerate(cycle(KINDS), int(time.time())):
        if time.monotonic() > end:
            break
        fuzz(kind, number, each)
        cases += each
    print(f"{cases:,} cases")
    assert cases
