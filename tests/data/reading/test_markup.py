"""YAML, TOML and XML: texts stay texts, and what could do harm is refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Source

needs_tomllib = pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML needs Python 3.11")


def read(folder: Path, name: str, content: bytes) -> list[tuple[object, str, str]]:
    (folder / name).write_bytes(content)
    rows = read_rows(Source(folder / name, name))
    return [(row.value, str(row.origin).removeprefix(name), row.part) for row in rows]


A, B = {"q": "a"}, {"q": "b"}
FIRST, SECOND = " record 1", " record 2"
GOOD = [
    ("list.yaml", b"- q: a\n- q: b\n", [(A, FIRST, ""), (B, SECOND, "")]),
    ("list.yml", b"\xef\xbb\xbf- q: a\r\n", [(A, FIRST, "")]),
    ("documents.yaml", b"---\nq: a\n---\nq: b\n", [(A, FIRST, ""), (B, SECOND, "")]),
    ("wrapper.yaml", b"version: 1\ndata:\n  - q: a\n", [(A, FIRST, "")]),
    ("parts.yaml", b"train:\n- q: a\nval:\n- q: b\n", [(A, FIRST, "train"), (B, SECOND, "validation")]),
    ("texts.yaml", b"- {a: no, b: 12:30, c: 2024-01-01, d: 1_000, e: 3.10, f: 007, g: on, h: 'true'}\n",
     [({"a": "no", "b": "12:30", "c": "2024-01-01", "d": "1_000", "e": "3.10", "f": "007", "g": "on", "h": "true"},
       FIRST, "")]),
    ("values.yaml", b"- {a: true, b: False, c: null, d: ~, e: , f: ''}\n",
     [({"a": True, "b": False, "c": None, "d": None, "e": None, "f": ""}, FIRST, "")]),
    ("block.yaml", b"- q: |\n    a\n    b\n", [({"q": "a\nb\n"}, FIRST, "")]),
    ("merge.yaml", b"data:\n- &x {q: a, r: s}\n- <<: *x\n  q: b\n",
     [({"q": "a", "r": "s"}, FIRST, ""), ({"q": "b", "r": "s"}, SECOND, "")]),
    ("empty.yaml", b"", []),
    ("null.yaml", b"---\n", []),
    pytest.param("tables.toml", b'[[data]]\nq = "a"\n[[data]]\nq = "b"\n', [(A, FIRST, ""), (B, SECOND, "")],
                 marks=needs_tomllib),
    pytest.param("dataset.toml", b'[[dataset]]\nq = "a"\n', [(A, FIRST, "")], marks=needs_tomllib),
    pytest.param("one.toml", b'q = "a"\n', [(A, FIRST, "")], marks=needs_tomllib),
    pytest.param("float.toml", b"q = 3.10\n", [({"q": "3.10"}, FIRST, "")], marks=needs_tomllib),
    pytest.param("empty.toml", b"", [], marks=needs_tomllib),
    ("rows.xml", b"<rows>\n <row>\n  <q>a &amp; b</q>\n  <r/>\n </row>\n <row><q>\n  c\n </q></row>\n</rows>",
     [({"q": "a & b", "r": ""}, ":2", ""), ({"q": "c"}, ":6", "")]),
    ("attributes.xml", b'<d n="2"><e q="a"/><e q="b"></e></d>', [(A, ":1", ""), (B, ":1", "")]),
    ("mixed.xml", b'<d><e q="a"><r>x</r></e></d>', [({"q": "a", "r": "x"}, ":1", "")]),
    ("texts.xml", b"<d><e>hello</e>\n<e>you</e></d>", [("hello", ":1", ""), ("you", ":2", "")]),
    ("cdata.xml", b"<d><e><q><![CDATA[if a < b:]]></q></e></d>", [({"q": "if a < b:"}, ":1", "")]),
    ("utf16.xml", '<?xml version="1.0" encoding="UTF-16"?><d><e q="\u00e9"/></d>'.encode("utf-16"),
     [({"q": "\u00e9"}, ":1", "")]),
    ("none.xml", b"<d/>", []),
    ("empty.xml", b"", []),
]  # fmt: skip
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in range(98, 106)
)
BROKEN = [
    ("tab.yaml", b"- q: a\n\tr: b\n", "tab.yaml:2, column 1: not YAML"),
    ("unclosed.yaml", b'- q: "a\n', "not YAML"),
    ("twice.yaml", b"- q: a\n  r: b\n  q: c\n", 'twice.yaml:3, column 3: not YAML: the name "q" is given twice'),
    ("object.yaml", b"- !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
    ("bomb.yaml", BOMB, "its aliases (*name) expand"),
    ("loop.yaml", b"&a [*a]\n", "loop.yaml"),
    ("deep.yaml", b"[" * 5000, "deep.yaml"),
    ("control.yaml", b"- q: a\x07\n", "not YAML"),
    ("latin.yaml", b"- q: caf\xe9\n", "not UTF-8"),
    pytest.param("broken.toml", b"q = \n", "not TOML", marks=needs_tomllib),
    pytest.param("twice.toml", b"q = 1\nq = 2\n", "not TOML", marks=needs_tomllib),
    ("doctype.xml", b'<!DOCTYPE d [<!ENTITY a "aaa">]>\n<d><e>&a;</e></d>', "doctype.xml:1: a DOCTYPE"),
    ("entity.xml", b"<d><e>&nbsp;</e></d>", "not XML (undefined entity)"),
    ("ampersand.xml", b"<d>\n<e>a & b</e></d>", "ampersand.xml:2, column 7: not XML"),
    ("cut.xml", b"<d><e>a</e>", "not XML (no element found)"),
    ("nested.xml", b"<d>\n<e><m><role>user</role></m></e></d>", "nested.xml:2: <role> is nested deeper"),
    ("twice.xml", b"<d><e><q>a</q><q>b</q></e></d>", "<q> is given twice"),
    ("loose.xml", b"<d><e><q>a</q>oops</e></d>", 'the text "oops" is between fields'),
    ("root.xml", b"<d>oops<e/></d>", 'the text "oops" is between fields'),
    ("lost.xml", b'<d><e><q lang="en">a</q></e></d>', "the field <q> has attributes"),
    ("latin.xml", b'<?xml version="1.0" encoding="ISO-8859-1"?>\n<d><e>caf\xe9</e></d>', "latin.xml:2: not UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "rows"), GOOD)
def test_markup(tmp_path: Path, name: str, content: bytes, rows: list[object]) -> None:
    assert read(tmp_path, name, content) == rows


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_broken_markup(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, content)
    assert message in str(caught.value)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_xml_rows_come_before_the_file_ends(tmp_path: Path) -> None:
    """A large file is read as a stream: what breaks at its end does not hide its beginning."""
    (tmp_path / "x.xml").write_bytes(b"<d>" + b"<e><q>a</q></e>\n" * 50_000 + b"<e>")
    rows = read_rows(Source(tmp_path / "x.xml", "x.xml"))
    assert next(rows).value == A
    with pytest.raises(DataError, match=r"x\.xml:50001"):
        list(rows)


def test_a_large_alias_is_no_bomb(tmp_path: Path) -> None:
    content = b"data:\n- {system: &s 'Be kind.', q: a}\n- {system: *s, q: b}\n"
    assert [value for value, _, _ in read(tmp_path, "s.yaml", content)] == [
        {"system": "Be kind.", "q": "a"},
        {"system": "Be kind.", "q": "b"},
    ]
