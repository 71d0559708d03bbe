"""JSON in every shape, and every way to get it wrong."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.errors import DataError
from llm_installer.data.reading.json_lossless import is_lossless
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Source
from tests.generated import many


def read(folder: Path, name: str, content: bytes) -> list[tuple[object, str, str]]:
    (folder / name).write_bytes(content)
    rows = read_rows(Source(folder / name, name))
    return [(row.value, str(row.origin).removeprefix(name), row.part) for row in rows]


A, B, C = {"q": "a"}, {"q": "b"}, {"q": "c"}
# name, content, values, origins (after the file's name), parts where there are any
SHAPES = [
    ("a.jsonl", b'{"q":"a"}\n{"q":"b"}\n', [A, B], [":1", ":2"]),
    ("a.ndjson", b'{"q":"a"}\n{"q":"b"}', [A, B], [":1", ":2"]),
    ("crlf.jsonl", b'{"q":"a"}\r\n\r\n{"q":"b"}\r\n', [A, B], [":1", ":3"]),
    ("cr.jsonl", b'{"q":"a"}\r{"q":"b"}\r', [A, B], [":1", ":2"]),
    ("blank.jsonl", b'\n  \n{"q":"a"}\n\t\n{"q":"b"}\n\n', [A, B], [":3", ":5"]),
    ("one.jsonl", b'{"q":"a"}', [A], [":1"]),
    ("late.jsonl", b'\n\n{"q":"a"}\n', [A], [":3"]),
    ("bom.jsonl", b'\xef\xbb\xbf{"q":"a"}\n{"q":"b"}\n', [A, B], [":1", ":2"]),
    ("utf16.jsonl", '{"q":"a"}\n{"q":"b"}\n'.encode("utf-16"), [A, B], [":1", ":2"]),
    ("utf16be.jsonl", b"\xfe\xff" + '{"q":"a"}\n{"q":"b"}'.encode("utf-16-be"), [A, B], [":1", ":2"]),
    ("utf32.json", '[{"q":"a"}]'.encode("utf-32"), [A], [" record 1"]),
    ("separators.jsonl", '{"q":"x\u2028y\x85z"}\n{"q":"b"}\n'.encode(), [{"q": "x\u2028y\x85z"}, B], [":1", ":2"]),
    ("array.jsonl", b'[{"q":"a"},\n {"q":"b"}]', [A, B], [" record 1", " record 2"]),
    ("minified.jsonl", b'[{"q":"a"},{"q":"b"}]\n', [A, B], [" record 1", " record 2"]),
    ("lines.json", b'{"q":"a"}\n{"q":"b"}\n', [A, B], [":1", ":2"]),
    ("lists.jsonl", b'[{"q":"a"}]\n[{"q":"b"}]\n', [[A], [B]], [":1", ":2"]),
    ("single.json", b'{\n  "q": "a"\n}\n', [A], [":1"]),
    ("pretty.json", b'\n{\n "q": "a"\n}\n{\n "q": "b"\n}\n', [A, B], [":2", ":5"]),
    ("glued.jsonl", b'{"q":"a"}{"q":"b"}\n{"q":"c"}', [A, B, C], [":1", ":1", ":2"]),
    ("scalars.jsonl", b'1\nnull\n"x"\n', [1, None, "x"], [":1", ":2", ":3"]),
    ("scalar.json", b'"x"', ["x"], [" record 1"]),
    ("empty.json", b"", [], []),
    ("blank.json", b" \n\n", [], []),
    ("none.json", b"[]", [], []),
    ("big.jsonl", b'{"n":12345678901234567890123}\n{"n":-9999999999999999999}',
     [{"n": 12345678901234567890123}, {"n": -9999999999999999999}], [":1", ":2"]),
    ("id.jsonl", b'{"n":1234567890123456789}\n{"n":18446744073709551615}',
     [{"n": 1234567890123456789}, {"n": 18446744073709551615}], [":1", ":2"]),
    ("big.json", b'[{"n":123456789012345678901}]', [{"n": 123456789012345678901}], [" record 1"]),
    ("deep.jsonl", b'{"a":' + b"[" * 400 + b"]" * 400 + b"}\n" + b'{"q":"b"}',
     [{"a": json.loads("[" * 400 + "]" * 400)}, B], [":1", ":2"]),
    ("pair.jsonl", b'{"q":"\\ud83d\\ude00"}\n{"q":"b"}', [{"q": "\U0001f600"}, B], [":1", ":2"]),
    ("colons.jsonl", b'{"q":"say \\"x\\": 1", "a" : "\\\\"}\n{"q":"{\\"q\\":\\"q\\"}"}',
     [{"q": 'say "x": 1', "a": "\\"}, {"q": '{"q":"q"}'}], [":1", ":2"]),
]  # fmt: skip
WRAPPED = [
    ({"data": [A, B]}, [A, B], ["", ""]),
    ({"version": "1.1", "data": [A]}, [A], [""]),
    *[({key: [A, B]}, [A, B], ["", ""]) for key in ("examples", "items", "samples", "rows", "records", "instances")],
    ({"data": ["x", "y"]}, ["x", "y"], ["", ""]),
    ({"train": [A], "validation": [B]}, [A, B], ["train", "validation"]),
    ({"train": [A], "valid": [B], "meta": {"n": 2}}, [A, B], ["train", "validation"]),
    ({"train": [A], "val": [B], "test": [C]}, [A, B, C], ["train", "validation", "validation"]),
    ({"Train": ["x"], "dev": ["y"]}, ["x", "y"], ["train", "validation"]),
    ({"data": []}, [], []),
    # pandas: orient="columns", "split" and "table"
    ({"q": {"0": "a", "1": "b"}, "r": {"0": 1, "1": None}}, [{"q": "a", "r": 1}, {"q": "b", "r": None}], ["", ""]),
    ({"columns": ["q"], "index": [0, 1], "data": [["a"], ["b"]]}, [A, B], ["", ""]),
    ({"schema": {"fields": []}, "data": [A]}, [A], [""]),
    # one record each, though a name or a shape recalls a wrapper
    ({"conversations": [A, B]}, [{"conversations": [A, B]}], [""]),
    ({"chosen": [A], "rejected": [B]}, [{"chosen": [A], "rejected": [B]}], [""]),
    ({"question": "x", "data": ["y"]}, [{"question": "x", "data": ["y"]}], [""]),
    ({"q": {"0": "a"}, "r": {"1": "b"}}, [{"q": {"0": "a"}, "r": {"1": "b"}}], [""]),
    ({"q": ["a", "b"], "r": ["c", "d"]}, [{"q": ["a", "b"], "r": ["c", "d"]}], [""]),
]
# name, content, and what the message must hold
BROKEN = [
    ("comma.jsonl", b'{"q":"a"}\n{"q":"b",}\n', ":2, column 9: a trailing comma"),
    ("comma.json", b'[\n {"q": "a"},\n]', ":2, column 12: a trailing comma"),
    ("single.jsonl", b"{'q': 'a'}\n{'q': 'b'}\n", ":1, column 2: single quotes"),
    ("single.json", b"[{'q': 'a'}]", ":1, column 3: single quotes"),
    ("nan.jsonl", b'{"q":"NaN"}\n{"q": "NaN", "r": NaN}\n', ":2, column 19: NaN is not a JSON value"),
    ("inf.json", b'[{"q": "a\\"Infinity"},\n {"q": -Infinity}]', ":2, column 8: -Infinity is not a JSON value"),
    ("float.jsonl", b'{"q":1}\n{"q": 1e999}', ":2: the number 1e999 is too large"),
    ("digits.jsonl", b'{"q":1}\n{"q":' + b"1" * 5000 + b"}", ":2: a number is too long"),
    ("twice.jsonl", b'{"q":"a"}\n{"q":"a","r":"b","q":"c"}\n', ':2: the name "q" is given twice'),
    ("twice.json", b'[{"a": {"q":"a", "q" : "b"}}]', 'the name "q" is given twice'),
    ("spaced.jsonl", b'{"a" : 1}\n{"a" : 1, "b": 2, "b": 3}', ':2: the name "b" is given twice'),
    ("tabbed.jsonl", b'{"a":1}\n{"a"\t: 1, "b": 2, "b": 3}', ':2: the name "b" is given twice'),
    ("unclosed.jsonl", b'{"q":"a"}\n{"q":"b"\n{"q":"c"}\n', ":2, column 9: the JSON ends too early"),
    ("first.jsonl", b'{"q":"a"\n{"q":"b"}\n{"q":"c"}\n', ":1: the record is not closed at the end of its line"),
    ("cut.json", b'[{"q": "a"}, {"q": "b"', "the JSON ends too early"),
    ("quote.jsonl", b'{"q":"a}\n{"q":"b"}\n', ":1, column 6: the string that begins here is never closed"),
    ("quote.json", b'[\n{"q": "a\n"}]', ":2, column 9: a line break inside a string"),
    ("tab.jsonl", b'{"q":"a\tb"}\n{}', "column 8: a tab inside a string"),
    ("bell.jsonl", b'{"q":"a\x07b"}\n{}', "a control character inside a string"),
    ("escape.jsonl", b'{"q":"C:\\dir"}\n{}', "a backslash that does not begin a JSON escape"),
    ("escape.json", b'{"q":"\\u12"}', "an invalid \\u escape"),
    ("inner.jsonl", b'{"q":"say "hi""}\n{}', ':1, column 12: "hi" where a comma'),
    ("missing.json", b'[{"q":"a"}\n{"q":"b"}]', ':2, column 1: "{" where a comma'),
    ("colon.jsonl", b'{"q" "a"}\n{}', "where the colon after a name"),
    ("bare.json", b'{q: "a"}', '"q" where a name in double quotes should be'),
    ("python.jsonl", b'{"q": None}\n{"q": 1}', '"None" is not a JSON value'),
    ("comment.json", b'[\n// mine\n{"q": 1}]', ":2, column 1: a comment"),
    ("html.json", b"<!DOCTYPE html>\n<html></html>", "beginning of a web page"),
    ("prose.jsonl", b"Hello there\nYou\n", ':1, column 1: "Hello" where a JSON value should be'),
    ("lines.jsonl", b'{"q":"a"},\n{"q":"b"},\n', ":1, column 10: a comma after a complete record"),
    ("extra.json", b'{"q":"a"}]', ':1, column 10: "]" after a complete record'),
    ("joined.jsonl", b'{"q":"a"}\n\xef\xbb\xbf{"q":"b"}\n', ":2, column 1: a byte order mark in the middle"),
    ("half.jsonl", b'{"q":"a"}\n{"q":"cut \\ud83d"}', ":2: \\ud83d is half of a character"),
    ("half.json", b'[{"q":"cut \\ude00"}]', "\\ude00 is half of a character"),
    ("deep.json", b"[" * 100_000, "nested too deeply"),
    ("deep.jsonl", b"{}\n" + b"[" * 100_000, ":2: brackets are nested too deeply"),
    ("latin.jsonl", b'{"q":"a"}\n{"q":"caf\xe9"}\n', ":2: not UTF-8 (byte 0xE9 at offset 19)"),
    ("latin.json", b'\xef\xbb\xbf[\n{"q":"caf\xe9"}]', ":2: not UTF-8 (byte 0xE9 at offset 14)"),
    ("nul.jsonl", b'{"q":"a"}\n{"q":"a\0b"}\n', ":2: a NUL byte at offset 17"),
    ("utf16.jsonl", '{"q":"a"}\n{"q":"b"}'.encode("utf-16-le"), "looks like UTF-16 without a byte order mark"),
    ("cut16.json", b"\xff\xfe[\x00]", "damaged at byte 4"),
    ("record.json", b'{"instruction": "x", "instances": [{"q": "a"}]}', 'because it also has "instruction"'),
    ("lfs.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    ("packed.json", b"\x1f\x8b\x08\0abc", "compressed with gzip; add .gz"),
]


@pytest.mark.parametrize(("name", "content", "values", "origins"), SHAPES, ids=[row[0] for row in SHAPES])
def test_shapes(tmp_path: Path, name: str, content: bytes, values: list[object], origins: list[str]) -> None:
    assert read(tmp_path, name, content) == [(v, o, "") for v, o in zip(values, origins, strict=True)]


@pytest.mark.parametrize(("document", "values", "parts"), WRAPPED, ids=[str(row[0])[:40] for row in WRAPPED])
@pytest.mark.parametrize("indent", [None, 1])
def test_wrappers(tmp_path: Path, document: object, values: list[object], parts: list[str], indent: int | None) -> None:
    found = read(tmp_path, "w.json", json.dumps(document, indent=indent).encode())
    assert [(value, part) for value, _, part in found] == list(zip(values, parts, strict=True))


@pytest.mark.parametrize(("name", "content", "message"), BROKEN, ids=[row[0] for row in BROKEN])
def test_broken(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, content)
    assert str(caught.value).startswith(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_before_a_broken_line_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"q":1}\n{"q":2}\n{"q":')
    rows = read_rows(Source(tmp_path / "x.jsonl", "x.jsonl"))
    assert [next(rows).value, next(rows).value] == [{"q": 1}, {"q": 2}]
    with pytest.raises(DataError, match=r"x\.jsonl:3, column 6"):
        next(rows)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("bad", [0, 1, 5000, 19_999])
def test_line_numbers_hold_across_blocks(tmp_path: Path, ending: str, bad: int) -> None:
    lines = [
        json.dumps({"n": number, "text": "\u00e9" * (number % 97)}, ensure_ascii=False) for number in range(20_000)
    ]
    name = "many.jsonl"
    good = ending.join(lines).encode()
    assert [origin for _, origin, _ in read(tmp_path, name, good)] == [f":{n}" for n in range(1, 20_001)]
    lines[bad] = lines[bad][:-1] + ",}"
    with pytest.raises(DataError, match=rf"^many\.jsonl:{bad + 1}, column .* a trailing comma"):
        read(tmp_path, name, ending.join(lines).encode())


def test_a_line_longer_than_a_block(tmp_path: Path) -> None:
    long = {"text": "x" * 3_000_000}
    content = b'{"q":"a"}\n' + json.dumps(long).encode() + b'\n{"q":"b"}\n'
    assert [(value, origin) for value, origin, _ in read(tmp_path, "l.jsonl", content)] == [
        (A, ":1"),
        (long, ":2"),
        (B, ":3"),
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(['"', '":', '\\":', '" :', "\\", ':"']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\\\":, ", max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=many(150), deadline=None)
@given(values=st.lists(JSON, min_size=2, max_size=5), plain=st.booleans(), spaced=st.booleans())
def test_whatever_json_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, values: list[object], plain: bool, spaced: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    separators = (", ", " : ") if spaced else (",", ":")
    lines = [json.dumps(value, ensure_ascii=plain, separators=separators) for value in values]
    assert [value for value, _, _ in read(folder, "any.jsonl", "\n".join(lines).encode())] == values


@settings(max_examples=many(300), deadline=None)
@given(record=st.dictionaries(st.text('ab":\\', max_size=3), JSON, min_size=1, max_size=4), data=st.data())
def test_a_repeated_name_is_never_overlooked(record: dict[str, object], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(record)))
    blank = st.sampled_from(["", " ", "  ", "\t", "\r\n", "\n "])
    separators = (",", data.draw(blank) + ":")
    text = json.dumps(record, separators=separators)[:-1] + f",{json.dumps(name)}{data.draw(blank)}: 1}}"
    assert not is_lossless(json.loads(text), text.encode())


@pytest.mark.parametrize(
    "hidden", ["\\\\\\u0022:", "\\u0020:", " \\u003a", "\\u0022\\u003A", '\\u005c\\":', '\\u005C\\":']
)
def test_escapes_do_not_hide_a_repeated_name(hidden: str) -> None:
    text = f'{{"a": "x{hidden}", "b": 1, "b": 2}}'
    assert not is_lossless(json.loads(text), text.encode())


@pytest.mark.parametrize(
    "text",
    ["18446744073709551617", "[1,18446744073709551617]", '{"a":-9223372036854775809}', "[12, 99999999999999999999]"],
)
def test_a_number_beyond_64_bits_is_never_rounded(text: str) -> None:
    assert not is_lossless(orjson.loads(text), text.encode())


@pytest.mark.parametrize("text", ["[1844674407370955161]", "[0.12345678901234567890123]"])
def test_numbers_that_every_reader_reads_alike_take_the_fast_way(text: str) -> None:
    assert is_lossless(orjson.loads(text), text.encode())


@pytest.mark.parametrize(
    "text", ['{"a": "x \\": y", "b" : "c :d", "e": "\\u00e9 \\\\\\":"}', '{"a\\\\":1, "b":"\\\\"}', "[1.5e3, 12]"]
)
def test_ordinary_records_take_the_fast_way(text: str) -> None:
    assert is_lossless(json.loads(text), text.encode())
