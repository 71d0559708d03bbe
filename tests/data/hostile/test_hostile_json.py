"""Hostile JSON: broken syntax, wrong values, wrappers, depth, numbers and halves of characters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = '{"prompt": "p", "completion": "c"}'
OTHER = '{"prompt": "q", "completion": "d"}'


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def wrapped(**parts: object) -> str:
    return json.dumps(parts)


def pairs(*names: str) -> list[dict[str, str]]:
    return [{"prompt": name, "completion": name} for name in names]


CASES: tuple[tuple[str, str, tuple[int, ...] | str], ...] = (
    (
        "single_quotes.jsonl",
        "{'prompt': 'a', 'completion': 'b'}\n" + lines(GOOD),
        "single_quotes.jsonl:1, column 2: single quotes",
    ),
    ("trailing_comma.json", '[{"prompt": "a", "completion": "b",}]', "trailing comma"),
    ("trailing_comma_list.json", f"[{GOOD},]", "trailing comma"),
    ("comma_lines.jsonl", f"{GOOD},\n{OTHER},\n", "a comma after a complete record"),
    ("nan.jsonl", lines(GOOD, '{"prompt": "a", "completion": NaN}'), "nan.jsonl:2, column 31: NaN is not a JSON value"),
    ("nan_in_text.jsonl", lines(GOOD, '{"prompt": "NaN", "completion": -Infinity}'), "-Infinity is not a JSON value"),
    ("infinity.json", '[{"prompt": "a", "completion": 1e999}]', "is too large"),
    ("none.jsonl", lines(GOOD, '{"prompt": "a", "completion": None}'), '"None" is not a JSON value'),
    (
        "duplicate_key.jsonl",
        lines(GOOD, '{"prompt": "a", "prompt": "z", "completion": "b"}'),
        "is given twice in one record",
    ),
    ("duplicate_inner.json", '[{"messages": [{"role": "user", "role": "user", "content": "x"}]}]', "is given twice"),
    ("duplicate_escaped.json", '[{"prompt": "a", "pr\\u006fmpt": "z", "completion": "b"}]', "is given twice"),
    ("comment.json", f"// hello\n[{GOOD}]", "a comment"),
    ("unclosed.json", f"[{GOOD}, ", "the JSON ends too early"),
    ("unclosed_text.jsonl", '{"prompt": "a\n' + lines(GOOD), "unclosed_text.jsonl:1"),
    ("unclosed_row.jsonl", '{"prompt": "a", "completion": "b"\n' + lines(GOOD), "not closed at the end of its line"),
    ("cut.jsonl", lines(GOOD, OTHER) + '{"prompt": "a", "compl', "cut.jsonl:3"),
    ("bracket.json", f"[{GOOD}]]", "after a complete record"),
    ("two_on_a_line.jsonl", f"{GOOD} {OTHER}\n{GOOD}\n", (3, 1, 1, 1, 0)),
    ("two_documents.json", f"{GOOD}{OTHER}", (2, 1, 1, 0, 0)),
    ("array_lines.jsonl", f"[{GOOD}]\n[{OTHER}]\n", "the record is a list"),
    ("tab.json", '[{"prompt": "a\tb", "completion": "c"}]', "a tab inside a string"),
    ("newline.json", '[{"prompt": "a\nb", "completion": "c"}]', "the string that begins here is never closed"),
    ("control.json", '[{"prompt": "a\x01b", "completion": "c"}]', "a control character"),
    ("escape.json", '[{"prompt": "\\x", "completion": "c"}]', "a backslash that does not begin a JSON escape"),
    ("escape_u.json", '[{"prompt": "\\u12", "completion": "c"}]', "an invalid \\u escape"),
    ("nul_escape.json", '[{"prompt": "a\\u0000b", "completion": "c"}]', (1, 1, 0, 0, 0)),
    (
        "half_high.jsonl",
        lines(GOOD, '{"prompt": "\\ud83d", "completion": "c"}'),
        "half_high.jsonl:2: \\ud83d is half of a character",
    ),
    ("half_low.json", '[{"prompt": "a", "completion": "\\ude00"}]', "is half of a character"),
    ("half_name.json", '[{"prompt": "a", "completion": "b", "\\ud800": 1}]', "is half of a character"),
    ("halves.json", '[{"prompt": "\\ude00\\ud83d", "completion": "c"}]', "is half of a character"),
    ("whole_pair.json", '[{"prompt": "\\ud83d\\ude00", "completion": "c"}]', (1, 1, 0, 0, 0)),
    (
        "half_inside.jsonl",
        lines(
            GOOD,
            json.dumps({"conversations": '[{"from": "human", "value": "\\ud83d"}, {"from": "gpt", "value": "x"}]'}),
        ),
        (1, 1, 0, 0, 1),
    ),
    (
        "half_tools.jsonl",
        lines(
            GOOD,
            json.dumps(
                {"prompt": "w", "functions": "[]", "function_call": '{"name": "f", "arguments": {"a": "\\udc00"}}'}
            ),
        ),
        (1, 1, 0, 0, 1),
    ),
    ("deep10.jsonl", lines(GOOD, '{"prompt": "x", "completion": ' + "[" * 10 + "]" * 10 + "}"), (1, 1, 0, 0, 1)),
    ("deep200.json", "[" * 200 + "]" * 200, "the record is a list"),
    (
        "deep600.jsonl",
        lines(GOOD, '{"question": "x", "answers": ' + "[" * 600 + '"a"' + "]" * 600 + "}"),
        (1, 1, 0, 0, 1),
    ),
    ("deep900.jsonl", lines(GOOD, '{"a": ' * 900 + "1" + "}" * 900), (1, 1, 0, 0, 1)),
    ("deep100k.json", "[" * 100_000, "nested too deeply"),
    ("deep100k.jsonl", lines(GOOD, '{"a":' * 100_000), "nested too deeply"),
    ("deep_inside.jsonl", lines(GOOD, json.dumps({"messages": "[" * 100_000})), (1, 1, 0, 0, 1)),
    ("deep_inside_closed.jsonl", lines(GOOD, json.dumps({"messages": "[" * 5000 + "]" * 5000})), (1, 1, 0, 0, 1)),
    (
        "deep_tools.jsonl",
        lines(
            GOOD,
            '{"prompt": "x", "functions": [{"name": "f", "parameters": '
            + '{"a": ' * 240
            + "1"
            + "}" * 240
            + '}], "function_call": {"name": "f"}}',
        ),
        (2, 1, 1, 0, 0),
    ),
    ("large_int.json", '[{"prompt": "a", "completion": 12345678901234567890123}]', (1, 1, 0, 0, 0)),
    ("huge_int.json", '[{"prompt": "a", "completion": ' + "9" * 5000 + "}]", "a number is too long to read"),
    ("scalar.json", "42", "the record is a number"),
    ("null.json", "null", "the record is null"),
    ("true.jsonl", "true\nfalse\n", "the record is true or false"),
    ("string.json", '"just text"', (1, 1, 0, 0, 0)),
    ("strings.json", '["a", "b", "c"]', (3, 2, 1, 0, 0)),
    ("empty_list.json", "[]", "holds no records"),
    ("empty_object.json", "{}", "the record has no keys"),
    ("empty_lists.json", "[[], []]", "the record is a list"),
    ("null_row.jsonl", lines(GOOD, "null"), (1, 1, 0, 0, 1)),
    ("null_rows.jsonl", lines("null", "null"), "null_rows.jsonl:1: the record is null"),
    ("unknown.jsonl", lines(GOOD, '{"foo": 1, "bar": 2}'), (1, 1, 0, 0, 1)),
    ("unknowns.jsonl", lines(*['{"foo": 1, "bar": 2}'] * 2), "unknowns.jsonl:1: no known format"),
    ("wrapper.json", wrapped(data=pairs("a", "b")), (2, 1, 1, 0, 0)),
    ("wrapper_about.json", wrapped(version="1.0", name="x", data=pairs("a", "b")), (2, 1, 1, 0, 0)),
    ("wrapper_fields.json", wrapped(data=pairs("a"), extra=pairs("b")), 'also has "extra"'),
    ("wrapper_parts.json", wrapped(train=pairs("a", "b"), validation=pairs("b", "c")), (4, 2, 1, 0, 0)),
    ("wrapper_test.json", wrapped(train=pairs("a", "b"), test=pairs("c")), (3, 2, 1, 0, 0)),
    ("wrapper_only_test.json", wrapped(test=pairs("a", "b")), "reserved for validation"),
    ("wrapper_both.json", wrapped(train=pairs("a"), data=pairs("b")), 'also has "data"'),
    ("wrapper_empty.json", wrapped(data=[]), "holds no records"),
    ("wrapper_null.json", wrapped(data=None), "no known format"),
    ("wrapper_scalars.json", wrapped(data=[1, 2]), "the record is a number"),
    ("wrapper_nested.json", wrapped(data={"rows": pairs("a")}), "no known format"),
    ("columns.json", wrapped(prompt={"0": "a", "1": "b"}, completion={"0": "c", "1": "d"}), (2, 1, 1, 0, 0)),
    ("columns_split.json", wrapped(columns=["prompt", "completion"], index=[0], data=[["a", "b"]]), (1, 1, 0, 0, 0)),
    ("columns_short.json", wrapped(columns=["prompt", "completion"], data=[["a"]]), "the record is a list"),
    (
        "columns_lists.json",
        wrapped(columns=[["prompt"], ["completion"]], data=[["a", "b"]]),
        "not a list of different names",
    ),
    (
        "columns_twice.json",
        wrapped(columns=["prompt", "completion", "completion"], data=[["a", "b", "c"]]),
        "not a list of different names",
    ),
    ("columns_null.json", wrapped(prompt={"0": "a", "1": None}, completion={"0": "c", "1": "d"}), (2, 1, 1, 0, 0)),
    ("web_lines.jsonl", "<html>\n" + lines(GOOD), "the beginning of a web page"),
    ("csv_lines.jsonl", "prompt,completion\na,b\n", "csv_lines.jsonl:1"),
    ("joined_bom.jsonl", lines(GOOD) + "\ufeff" + lines(OTHER), "a byte order mark in the middle"),
)


@pytest.mark.parametrize(("name", "content", "expected"), CASES, ids=[name for name, _, _ in CASES])
def test_json(name: str, content: str, expected: tuple[int, ...] | str, here: Path, judge: Callable[..., None]) -> None:
    (here / name).write_text(content, encoding="utf-8", newline="")
    judge(expected, name)
