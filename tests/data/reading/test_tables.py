"""CSV and TSV: cells stay text, and every broken line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Source


def read(folder: Path, name: str, content: bytes) -> list[tuple[object, int]]:
    (folder / name).write_bytes(content)
    return [(row.value, row.origin.line) for row in read_rows(Source(folder / name, name))]


QA = [({"q": "a", "r": "b"}, 2)]
GOOD = [
    ("comma.csv", b"q,r\na,b\n", QA),
    ("semicolon.csv", b"q;r\na;b\n", QA),
    ("tab.csv", b"q\tr\na\tb\n", QA),
    ("bar.csv", b"q|r\na|b\n", QA),
    ("tab.tsv", b"q\tr\na\tb\n", QA),
    ("comma.tsv", b"q,r\na,b\n", QA),
    ("crlf.csv", b"q,r\r\na,b\r\n", QA),
    ("cr.csv", b"q,r\ra,b\r", QA),
    ("bom.csv", b"\xef\xbb\xbfq,r\na,b", QA),
    ("utf16.csv", "q;r\r\na;b\r\n".encode("utf-16"), QA),
    ("quoted.csv", b'"q","r"\n"a","b"\n', QA),
    ("spaces.csv", b'q, r\na, "b"\n', QA),
    ("blank.csv", b"\nq,r\n\na,b\n\n", [({"q": "a", "r": "b"}, 4)]),
    ("types.csv", b"q,r\nNA,007\nnan,\nnull,1.50\n",
     [({"q": "NA", "r": "007"}, 2), ({"q": "nan", "r": ""}, 3), ({"q": "null", "r": "1.50"}, 4)]),
    ("lines.csv", b'q,r\n"a\nb, c\n","d"\ne,f\n', [({"q": "a\nb, c\n", "r": "d"}, 2), ({"q": "e", "r": "f"}, 5)]),
    ("crlf_cell.csv", b'q,r\r\n"a\r\nb",c\r\n', [({"q": "a\r\nb", "r": "c"}, 2)]),
    ("doubled.csv", b'q,r\n"say ""hi""",5" pipe\n', [({"q": 'say "hi"', "r": '5" pipe'}, 2)]),
    ("prose.csv", b"q;r\nYes, well, so;No, no\n", [({"q": "Yes, well, so", "r": "No, no"}, 2)]),
    ("prose.tsv", b"q\tr\na, b; c | d\te\n", [({"q": "a, b; c | d", "r": "e"}, 2)]),
    ("one.csv", b'text\nhello\n"a, b"\n', [({"text": "hello"}, 2), ({"text": "a, b"}, 3)]),
    ("one.tsv", b"text\na, b\n", [({"text": "a, b"}, 2)]),
    ("separator.csv", "q,r\na\u2028b,c\x0bd\x85\n".encode(), [({"q": "a\u2028b", "r": "c\x0bd\x85"}, 2)]),
    ("header.csv", b"q,r\n", []),
    ("empty.csv", b"", []),
]  # fmt: skip
BROKEN = [
    ("wide.csv", b"q,r\na,b\na,b,c\n", 'wide.csv:3: 3 cells where the first line names 2 (q,r); put " around'),
    ("narrow.csv", b"q,r\na,b\n\na\n", "narrow.csv:4: 1 cell where the first line names 2"),
    ("wide_one.csv", b"text\na, b\n", "wide_one.csv:2: 2 cells where the first line names 1"),
    ("unclosed.csv", b'q,r\na,b\n"c,d\ne,f\n', 'unclosed.csv:3: a cell begins with " and is never closed'),
    ("inner.csv", b'q,r\n"a "b" c",d\n', 'inner.csv:2: a " inside a quoted cell'),
    ("slash.csv", b'q,r\n"a \\"b\\" c",d\n', 'slash.csv:2: a " inside a quoted cell'),
    ("return.csv", b"q,r\na\rb,c\n", "return.csv:2: a carriage return"),
    ("same.csv", b"q,r,q\na,b,c\n", 'two columns have the name "q"'),
    ("unnamed.csv", b",q,r\n0,a,b\n", "column 1 has no name"),
    ("trailing.csv", b"q,r,\na,b,\n", "column 3 has no name"),
    ("prose.csv", b"What is two and two?,It is four.\n", "first row is 'What is two and two?,It is four.'"),
    ("numbers.csv", b"1,hello\n2,there\n", "no line with column names"),
    ("long.csv", b"q" * 90 + b",r\na,b\n", "no line with column names"),
    ("hint.csv", b"1.5;hello\n", "--columns"),
    ("latin.csv", b"q;r\na;caf\xe9\n", "latin.csv:2: not UTF-8 (byte 0xE9 at offset 9)"),
    ("nul.csv", b"q,r\na,b\0\n", "nul.csv:2: a NUL byte at offset 7"),
]


@pytest.mark.parametrize(("name", "content", "rows"), GOOD, ids=[row[0] for row in GOOD])
def test_tables(tmp_path: Path, name: str, content: bytes, rows: list[object]) -> None:
    assert read(tmp_path, name, content) == rows


@pytest.mark.parametrize(("name", "content", "message"), BROKEN, ids=[row[0] for row in BROKEN])
def test_broken_tables(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, content)
    assert message in str(caught.value)
    assert str(caught.value).startswith(name)


def test_a_huge_cell(tmp_path: Path) -> None:
    cell = "x, y\n" * 200_000
    content = f'q,r\n"{cell}",b\nc,d\n'.encode()
    assert read(tmp_path, "huge.csv", content) == [({"q": cell, "r": "b"}, 2), ({"q": "c", "r": "d"}, 200_003)]


def test_the_sample_may_end_inside_a_cell(tmp_path: Path) -> None:
    """The delimiter is found although the first lines are mostly one long quoted cell."""
    cell = "a, b, c\n" * 300
    assert read(tmp_path, "s.csv", f'q;r\n1;2\n"{cell}";x\n'.encode())[1] == ({"q": cell, "r": "x"}, 3)


def test_many_rows_have_exact_lines(tmp_path: Path) -> None:
    content = "q,r\n" + "".join(f'{n},"x\ny"\n' for n in range(30_000))
    rows = read(tmp_path, "many.csv", content.encode())
    assert rows[-1] == ({"q": "29999", "r": "x\ny"}, 60_000)
