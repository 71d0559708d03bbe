"""A cleaned copy of hostile lines: what can be trained on is written, the rest listed, and nothing is a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer.data.fix import fix
from llm_installer.data.store.load import DataRequest

GOOD = '{"prompt": "p", "completion": "c"}'


@pytest.mark.parametrize(
    ("line", "skipped"),
    [
        ('{"prompt": "\\ud83d", "completion": "b"}', "half a character"),
        ("{'prompt': '\\ud83d', 'completion': 'b'}", "half a character"),
        ('{"prompt": "a", "completion": ' + "9" * 5000 + "}", "a number too long"),
        ('{"prompt": ' + "[" * 100_000, "nested too deeply"),
        ("{'prompt': " + "(" * 5000, "column"),
        ("{'prompt': {1, 2}, 'completion': b'x'}", "where text is expected"),
        ("{'prompt': 1j, 'completion': 'x'}", "where text is expected"),
        ('{"prompt": "a", "completion": NaN}', "completion is empty"),
        ("\ufeff" + GOOD, "byte order mark"),
    ],
    ids=["half", "python half", "number", "deep", "deep python", "set", "complex", "nan", "mark"],
)
def test_lines(line: str, skipped: str, here: Path) -> None:
    (here / "a.jsonl").write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    found = fix(DataRequest("a.jsonl", base=here), here / "out.jsonl")
    assert (found.written, found.skipped_count) == (1, 1)
    assert skipped in found.skipped[0].reason
    assert json.loads((here / "out.jsonl").read_text(encoding="utf-8")) == json.loads(GOOD)


def test_repeated_lines_and_rows_are_written_once(here: Path) -> None:
    (here / "a.txt").write_text("la\nla\nli\n", encoding="utf-8")
    (here / "b.jsonl").write_text(f"{GOOD}\n{GOOD}\n", encoding="utf-8")
    found = fix(DataRequest("a.txt,b.jsonl", base=here), here / "out.jsonl")
    assert (found.written, found.skipped_count) == (3, 2)
