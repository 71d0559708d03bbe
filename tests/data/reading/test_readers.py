"""Plain text, packed files, encodings, and the real files of the shared folder."""

from __future__ import annotations

import csv
import gzip
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.reading.readers import READERS, read_rows
from llm_installer.data.reading.rows import Source, data_suffix
from llm_installer.data.reading.sources import find_sources

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def read(folder: Path, name: str, content: bytes) -> list[tuple[object, int]]:
    (folder / name).write_bytes(content)
    return [(row.value, row.origin.line) for row in read_rows(Source(folder / name, name))]


PLAIN = [
    ("a.txt", b"a\nb\n", [("a", 1), ("b", 2)]),
    ("last.text", b"a\nb", [("a", 1), ("b", 2)]),
    ("crlf.txt", b"a\r\n\r\nb\r\n", [("a", 1), ("b", 3)]),
    ("cr.txt", b"a\rb\r", [("a", 1), ("b", 2)]),
    ("blank.txt", b"\n \n\t\na\n", [("a", 4)]),
    ("spaces.txt", b"  a  \n", [("  a  ", 1)]),
    ("separators.txt", "a\u2028b\u0085c\x0bd\x0ce\n".encode(), [("a\u2028b\u0085c\x0bd\x0ce", 1)]),
    ("carriage.txt", b"a\rb\nc\n", [("a\rb", 1), ("c", 2)]),
    ("bom.txt", b"\xef\xbb\xbfa\n", [("a", 1)]),
    ("utf16.txt", "caf\u00e9\r\n\U0001f600".encode("utf-16"), [("caf\u00e9", 1), ("\U0001f600", 2)]),
    ("utf32.txt", b"\0\0\xfe\xff" + "a\nb".encode("utf-32-be"), [("a", 1), ("b", 2)]),
    ("replacement.txt", "kept \ufffd\n".encode(), [("kept \ufffd", 1)]),
    ("note.md", b"# a\n\nb\n", [("# a", 1), ("b", 3)]),
    ("empty.txt", b"", []),
    ("bom_only.txt", b"\xef\xbb\xbf", []),
]
REFUSED = [
    ("latin.txt", "a\ncaf\u00e9\n".encode("latin-1"),
     "latin.txt:2: not UTF-8 (byte 0xE9 at offset 5); convert it from its encoding, for example with: "
     "iconv -f WINDOWS-1252 -t UTF-8 < latin.txt > latin.utf8.txt"),
    ("my data.txt", b"\xff", "iconv -f WINDOWS-1252 -t UTF-8 < 'my data.txt' > 'my data.utf8.txt'"),
    ("latin.txt.gz", gzip.compress(b"caf\xe9"),
     "gzip -dc latin.txt.gz | iconv -f WINDOWS-1252 -t UTF-8 > latin.utf8.txt"),
    ("surrogate.txt", b"a\xed\xa0\x80", "byte 0xED at offset 1"),
    ("nul.txt", b"a\nb\0c\n", "nul.txt:2: a NUL byte at offset 3, which is not text"),
    ("wide.txt", "hello\n".encode("utf-16-le"), "iconv -f UTF-16LE -t UTF-8 < wide.txt"),
    ("big.txt", "hello\n".encode("utf-16-be"), "iconv -f UTF-16BE -t UTF-8 < big.txt"),
    ("odd.txt", b"\xff\xfea\0b", "odd.txt has the byte order mark of UTF-16 but is damaged at byte 4"),
    ("pointer.txt", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ("zip.txt", b"PK\x03\x04rest", "zip.txt is really a zip file"),
    ("parquet.csv", b"PAR1\x15\x04", "parquet.csv is really a parquet file"),
    ("cut.jsonl.gz", gzip.compress(b'{"q": "a"}\n' * 1000)[:-20], "cut.jsonl.gz is truncated"),
    ("flipped.txt.gz", gzip.compress(b"a\n" * 1000)[:-8] + b"\0" * 8, "is not a complete gzip file"),
    ("garbled.txt.gz", gzip.compress(b"a")[:10] + b"\xff" * 30, "garbled.txt.gz is damaged"),
    ("plain.json.gz", b'{"q": "a"}', "is not a complete gzip file despite its name"),
    ("unknown.dat", b"x", "known endings are .json, .jsonl"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "rows"), PLAIN, ids=[row[0] for row in PLAIN])
def test_plain_text(tmp_path: Path, name: str, content: bytes, rows: list[object]) -> None:
    assert read(tmp_path, name, content) == rows


@pytest.mark.parametrize(("name", "content", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, name, content)
    assert message in str(caught.value)


@pytest.mark.parametrize("command", ["iconv", "tr"])
def test_the_commands_that_messages_give_do_work(tmp_path: Path, command: str) -> None:
    content = {"iconv": "caf\u00e9 cr\u00e8me\n".encode("cp1252"), "tr": b"caf\0\n"}[command]
    with pytest.raises(DataError) as caught:
        read(tmp_path, "it's.txt", content)
    line = re.search(rf"(?<=: ){command} .*", str(caught.value))
    assert line
    subprocess.run(["sh", "-c", line[0]], cwd=tmp_path, check=True)
    rows = list(read_rows(Source(tmp_path / "it's.utf8.txt", "it's.utf8.txt")))
    assert [row.value for row in rows] == [{"iconv": "caf\u00e9 cr\u00e8me", "tr": "caf"}[command]]


@pytest.mark.parametrize("suffix", sorted(READERS.keys() - {".parquet"}))
def test_every_kind_may_be_gzipped_and_shouted(tmp_path: Path, suffix: str) -> None:
    contents = {
        **dict.fromkeys((".csv", ".tsv"), b"q,r\na,b\n"),
        **dict.fromkeys((".yaml", ".yml"), b"- q: a\n  r: b\n"),
        **dict.fromkeys((".json", ".jsonl", ".ndjson"), b'{"q": "a", "r": "b"}\n'),
        ".toml": b'q = "a"\nr = "b"\n',
        ".xml": b"<d><e><q>a</q><r>b</r></e></d>",
    }
    if suffix == ".toml" and sys.version_info < (3, 11):
        pytest.skip("TOML needs Python 3.11")
    content = contents.get(suffix, b"a b\n")
    expected: object = {"q": "a", "r": "b"} if suffix in contents else "a b"
    assert [value for value, _ in read(tmp_path, f"X{suffix.upper()}", content)] == [expected]
    assert [value for value, _ in read(tmp_path, f"x{suffix}.Gz", gzip.compress(content))] == [expected]


def test_zip_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/b.jsonl", b'{"q": 1}\n{"q": 2}\n')
        archive.writestr("c.txt.gz", gzip.compress(b"hello\n"))
    rows = [row for source in find_sources("a.zip", tmp_path)[0] for row in read_rows(source)]
    assert [row.value for row in rows] == ["hello", {"q": 1}, {"q": 2}]
    assert [str(row.origin) for row in rows] == ["a.zip!c.txt.gz:1", "a.zip!in/b.jsonl:1", "a.zip!in/b.jsonl:2"]


def test_a_damaged_zip_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.txt", b"hello world\n")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"world", b"earth"))
    [source] = find_sources("a.zip", tmp_path)[0]
    with pytest.raises(DataError, match=r"^a\.zip!b\.txt is a damaged zip file"):
        list(read_rows(source))


def test_a_zip_with_a_file_that_has_no_name(tmp_path: Path) -> None:
    """zipfile ends a name at its first NUL, and asks for the last letter of what is left."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.txt", b"hello world\n")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"b.txt", b"\0.txt"))
    with pytest.raises(DataError, match=r"^a\.zip contains a file without a name"):
        find_sources("a.zip", tmp_path)


def test_a_character_across_blocks(tmp_path: Path) -> None:
    """Wherever the blocks are cut, no character is."""
    text = "\U0001f600" * 300_000
    for shift in range(4):
        assert read(tmp_path, "x.txt", b"a" * shift + text.encode()) == [("a" * shift + text, 1)]
        assert read(tmp_path, "y.txt", ("a" * shift + text).encode("utf-16")) == [("a" * shift + text, 1)]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Read 24 MB of each streamed kind in a process that may use far less."""
    script = """
import resource, sys
from pathlib import Path
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Source
path = Path(sys.argv[1])
next(read_rows(Source(path, "x")))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in read_rows(Source(path, "x")))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    line = "x" * 600
    for name, header, row in (
        ("x.jsonl", "", f'{{"q":"{line}"}}\n'),
        ("x.csv", "q,r\n", f"{line},b\n"),
        ("x.txt", "", line + "\n"),
    ):
        path = tmp_path / name
        path.write_text(header + row * 40_000)
        command = [sys.executable, "-c", script, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
        count, grown = map(int, done.stdout.split())
        assert count == 40_000
        assert grown < 12_000, f"{name} took {grown} KiB more"
        path.unlink()


def test_suffixes() -> None:
    assert set(READERS) == {data_suffix(f"x{suffix}") for suffix in READERS}
    assert data_suffix("a.b/x.JSONL.GZ") == ".jsonl"
    assert data_suffix("x.gz") == ".gz"
    assert data_suffix("README") == ""


def listed() -> Iterator[dict[str, str]]:
    if SHARED.is_dir():
        with (SHARED / "SOURCES.tsv").open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not beside this checkout")
def test_real_files() -> None:
    """Every file holds as many records as its list says; nested documents and plain text are counted their own way."""
    special = {"qa/squad_v1_allennlp.json": 1, "qa/quac_sample.json": 2, "text/tinyshakespeare.txt": 68}
    checked = 0
    for entry in listed():
        if entry["format"] == "image":
            continue
        [source], notes = find_sources(entry["file"], SHARED)
        number = re.match(r"\d+", entry["count"])
        expected = special.get(entry["file"]) or (int(number[0]) if number else None)
        rows = list(read_rows(source))
        assert (entry["file"], len(rows), notes) == (entry["file"], expected, [])
        lines = [row.origin.line or row.origin.record for row in rows]
        assert lines == sorted(lines)
        assert not any(value != value for row in rows if isinstance(row.value, dict) for value in row.value.values())
        checked += 1
    assert checked == 38


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not beside this checkout")
def test_a_table_of_real_text() -> None:
    [source] = find_sources("SOURCES.tsv", SHARED)[0]
    assert [row.value for row in read_rows(source)] == list(listed())
    [source] = find_sources("completion/msswift_alpaca.csv", SHARED)[0]
    assert next(read_rows(source)).value == {
        "system": "00000", "instruction": "11111", "input": "22222", "output": "3.3",
    }  # fmt: skip
