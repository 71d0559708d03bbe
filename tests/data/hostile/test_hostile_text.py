"""Hostile bytes: encodings, marks, NULs, line ends, blank lines, sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def lines(count: int, end: str = "\n") -> str:
    return "".join(json.dumps({"prompt": f"p{i}", "completion": f"c{i}"}) + end for i in range(count))


TWO = lines(2)
CASES: tuple[tuple[str, bytes, tuple[int, ...] | str], ...] = (
    ("bom8.jsonl", b"\xef\xbb\xbf" + TWO.encode(), (2, 1, 1, 0, 0)),
    ("bom8.csv", b"\xef\xbb\xbfprompt,completion\na,b\nc,d\n", (2, 1, 1, 0, 0)),
    ("bom8.txt", "\ufeffa\nb\n".encode(), (2, 1, 1, 0, 0)),
    ("bom16le.jsonl", b"\xff\xfe" + TWO.encode("utf-16-le"), (2, 1, 1, 0, 0)),
    (
        "bom16be.json",
        b"\xfe\xff" + json.dumps([{"prompt": "\u00e9", "completion": "b"}]).encode("utf-16-be"),
        (1, 1, 0, 0, 0),
    ),
    ("bom32le.txt", b"\xff\xfe\x00\x00" + "a\nb\n".encode("utf-32-le"), (2, 1, 1, 0, 0)),
    ("bom32be.csv", b"\x00\x00\xfe\xff" + "prompt,completion\na,b\n".encode("utf-32-be"), (1, 1, 0, 0, 0)),
    ("odd16.jsonl", b"\xff\xfe" + TWO.encode("utf-16-le") + b"x", "is damaged at byte"),
    ("lone16.txt", b"\xff\xfe" + b"\x00\xd8a\x00", "is damaged at byte"),
    ("nobom16.jsonl", TWO.encode("utf-16-le"), "iconv -f UTF-16LE"),
    ("nobom16be.txt", "abc\n".encode("utf-16-be"), "iconv -f UTF-16BE"),
    ("latin1.txt", b"caf\xe9\n", "byte 0xE9 at offset 3"),
    ("latin1.jsonl", TWO.encode() + b'{"prompt": "caf\xe9", "completion": "x"}\n', "latin1.jsonl:3: not UTF-8"),
    ("cp1252.csv", b"prompt,completion\nit\x92s,b\n", "cp1252.csv:2: not UTF-8 (byte 0x92"),
    ("overlong.txt", b"a\xc0\xafb\n", "byte 0xC0"),
    ("cesu.txt", b"\xed\xa0\xbd\xed\xb8\x80\n", "byte 0xED"),
    ("cut_utf8.txt", "caf\u00e9".encode()[:-1], "byte 0xC3"),
    ("beyond.txt", b"\xf4\x90\x80\x80\n", "byte 0xF4"),
    ("nul.txt", b"a\0b\n", "a NUL byte at offset 1"),
    ("nul.jsonl", TWO.encode() + b'{"prompt": "a\0", "completion": "b"}\n', "nul.jsonl:3: a NUL byte"),
    ("nul.csv", b"prompt,completion\na,b\0\n", "nul.csv:2: a NUL byte"),
    ("nul_only.txt", b"\0" * 1000, "looks like UTF-16"),
    ("nul_tail.jsonl", TWO.encode() + b"\0" * 5000, "nul_tail.jsonl:3: a NUL byte"),
    ("empty.jsonl", b"", "holds no records"),
    ("empty.json", b"", "holds no records"),
    ("empty.csv", b"", "holds no records"),
    ("empty.txt", b"", "holds no records"),
    ("empty.yaml", b"", "holds no records"),
    ("empty.toml", b"", "holds no records"),
    ("empty.xml", b"", "holds no records"),
    ("empty.parquet", b"", "is damaged, or not what its name says"),
    ("only_bom.jsonl", b"\xef\xbb\xbf", "holds no records"),
    ("only_bom16.txt", b"\xff\xfe", "holds no records"),
    ("blank.jsonl", b" \n\t\n\n", "holds no records"),
    ("blank.xml", b"\n \n", "holds no records"),
    ("blanks.jsonl", b"\n" * 100_000, "holds no records"),
    ("blanks.txt", b"\n" * 100_000 + b"a\nb\n", (2, 1, 1, 0, 0)),
    ("blanks_between.jsonl", lines(3, "\n\n  \n").encode(), (3, 2, 1, 0, 0)),
    ("crlf.jsonl", lines(3, "\r\n").encode(), (3, 2, 1, 0, 0)),
    ("crlf.csv", b"prompt,completion\r\na,b\r\nc,d\r\n", (2, 1, 1, 0, 0)),
    ("crlf.txt", b"a\r\nb\r\n", (2, 1, 1, 0, 0)),
    ("cr.jsonl", lines(3, "\r").encode(), (3, 2, 1, 0, 0)),
    ("cr.txt", b"a\rb\rc", (3, 2, 1, 0, 0)),
    ("cr.csv", b"prompt,completion\ra,b\rc,d\r", (2, 1, 1, 0, 0)),
    ("mixed_ends.txt", b"a\r\nb\nc\rd\n", (3, 2, 1, 0, 0)),
    (
        "separators.jsonl",
        '{"prompt": "a\u2028b", "completion": "c\u2029d\x85e"}\n'.encode() + b'{"prompt": "b", "completion": "c"}\n',
        (2, 1, 1, 0, 0),
    ),
    ("separators.txt", "a\u2028b\nc\u2029d\x85e\x0cf\n".encode(), (2, 1, 1, 0, 0)),
    ("no_end.jsonl", TWO.rstrip("\n").encode(), (2, 1, 1, 0, 0)),
    (
        "long_line.jsonl",
        json.dumps({"prompt": "p", "completion": "ab " * 1_700_000}).encode() + b"\n" + TWO.encode(),
        (3, 2, 1, 0, 0),
    ),
    ("long_line.txt", b"ab " * 1_700_000, (1, 1, 0, 0, 0)),
    (
        "one_line.json",
        json.dumps([{"prompt": f"p{i}", "completion": "x" * 50_000} for i in range(100)]).encode(),
        (100, 90, 10, 0, 0),
    ),
    (
        "emoji.txt",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467\n\u0645\u0631\u062d\u0628\u0627\u202e\ne\u0301\u0323\n".encode(),
        (3, 2, 1, 0, 0),
    ),
    ("noncharacters.txt", "a\ufdd0\nb\uffff\nc\U0010ffff\n".encode(), (3, 2, 1, 0, 0)),
    ("git_lfs.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    ("gzip.jsonl", b"\x1f\x8b\x08" + b"\0" * 20, "compressed with gzip; add .gz"),
    ("zip.csv", b"PK\x03\x04" + b"\0" * 20, "a zip file"),
    ("parquet.json", b"PAR1\x15" + b"\0" * 20, "a parquet file"),
    ("page.json", b"<!DOCTYPE html><html></html>", "the beginning of a web page"),
    ("pdf.txt", b"%PDF-1.7\n", "a PDF"),
)


@pytest.mark.parametrize(("name", "content", "expected"), CASES, ids=[name for name, _, _ in CASES])
def test_bytes(
    name: str, content: bytes, expected: tuple[int, ...] | str, here: Path, judge: Callable[..., None]
) -> None:
    (here / name).write_bytes(content)
    judge(expected, name)
