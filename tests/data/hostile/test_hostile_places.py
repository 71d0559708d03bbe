"""Hostile places: folders, fifos, links, odd names, archives, the same file twice."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROWS = b'{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n'
OTHER = b'{"prompt": "e", "completion": "f"}\n{"prompt": "g", "completion": "h"}\n'
TWO = (2, 1, 1, 0, 0)
FOUR = (4, 3, 1, 0, 0)


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(sink, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name given twice is what one of the tests is about
        for name, content in members:
            archive.writestr(name, content)
    return sink.getvalue()


def damaged(content: bytes, at: int) -> bytes:
    return content[:at] + bytes(byte ^ 0xFF for byte in content[at : at + 8]) + content[at + 8 :]


LOCKED = bytearray(zipped(("a.jsonl", ROWS)))
for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
    LOCKED[LOCKED.index(mark) + place] |= 1
BAD_NAME = zipped(("\u00e9.jsonl", ROWS)).replace("\u00e9".encode(), b"\xff\xff")


def blanks() -> bytes:
    """More than a small packed file may unpack to; made by the two tests that need it, not for all."""
    return b" " * ((1 << 28) + 1000)


PACKED: tuple[tuple[str, bytes | Callable[[], bytes], tuple[int, ...] | str], ...] = (
    ("a.jsonl.gz", gzip.compress(ROWS), TWO),
    ("joined.jsonl.gz", gzip.compress(ROWS) + gzip.compress(OTHER), FOUR),
    ("A.JSONL.GZ", gzip.compress(ROWS), TWO),
    ("cut.jsonl.gz", gzip.compress(ROWS)[:-10], "is truncated"),
    ("head.jsonl.gz", gzip.compress(ROWS)[:5], "is truncated"),
    ("zero.jsonl.gz", b"", "holds no records"),
    ("no.jsonl.gz", ROWS, "is not a complete gzip file"),
    ("tail.jsonl.gz", gzip.compress(ROWS) + b"garbage", "is not a complete gzip file"),
    ("padded.jsonl.gz", gzip.compress(ROWS) + b"\0" * 100, TWO),
    ("bits.jsonl.gz", damaged(gzip.compress(ROWS), 12), "."),
    ("sum.jsonl.gz", damaged(gzip.compress(ROWS), len(gzip.compress(ROWS)) - 8), "is not a complete gzip file"),
    ("twice.jsonl.gz", gzip.compress(gzip.compress(ROWS)), "compressed with gzip"),
    ("a.gz", gzip.compress(ROWS), "is not a kind of file that can be read"),
    ("bomb.jsonl.gz", lambda: gzip.compress(blanks(), 1), "unpacks to more than 200 times its size"),
    ("a.zip", zipped(("a.jsonl", ROWS), ("b/c.jsonl", OTHER)), FOUR),
    ("inner.zip", zipped(("a.jsonl.gz", gzip.compress(ROWS))), TWO),
    ("bomb.zip", lambda: zipped(("a.json", blanks())), "unpacks to more than 200 times its size"),
    ("cut.zip", zipped(("a.jsonl", ROWS))[:-30], "is a damaged zip file"),
    ("zero.zip", b"", "is a damaged zip file"),
    ("no.zip", ROWS, "is a damaged zip file"),
    ("crc.zip", damaged(zipped(("a.jsonl", ROWS), method=zipfile.ZIP_STORED), 45), "is a damaged zip file"),
    ("bits.zip", damaged(zipped(("a.jsonl", ROWS)), 45), "is a damaged zip file"),
    ("lzma.zip", damaged(zipped(("a.jsonl", ROWS * 9), method=zipfile.ZIP_LZMA), 50), "damaged"),
    ("bzip2.zip", damaged(zipped(("a.jsonl", ROWS * 9), method=zipfile.ZIP_BZIP2), 45), "cannot be read"),
    ("locked.zip", bytes(LOCKED), "needs a password"),
    ("bad_name.zip", BAD_NAME, "is a damaged zip file"),
    ("names.zip", zipped(("a.jsonl", ROWS), ("a.jsonl", OTHER)), "contains two files named a.jsonl"),
    ("nothing.zip", zipped(), "contains no data files"),
    ("zips.zip", zipped(("a.zip", zipped(("a.jsonl", ROWS)))), "a zip inside a zip"),
    ("pictures.zip", zipped(("a.png", b"x"), ("README.md", b"x")), "contains no data files"),
    ("hidden.zip", zipped(("__MACOSX/._a.jsonl", b"\0"), ("a.jsonl", ROWS)), TWO),
    ("climbing.zip", zipped(("../../a.jsonl", ROWS)), "contains no data files"),
    ("bad_member.zip", zipped(("a.jsonl", ROWS), ("b.jsonl", b"{")), "bad_member.zip!b.jsonl:1"),
    ("a.tar", b"", "unpack it and give the folder"),
    ("a.xlsx", b"PK\x03\x04", "save the sheet as CSV"),
    ("noname", ROWS, "is not a kind of file that can be read"),
)


@pytest.mark.parametrize(("name", "content", "expected"), PACKED, ids=[name for name, _, _ in PACKED])
def test_packed(
    name: str,
    content: bytes | Callable[[], bytes],
    expected: tuple[int, ...] | str,
    here: Path,
    judge: Callable[..., None],
) -> None:
    (here / name).write_bytes(content() if callable(content) else content)
    judge(expected, name)


NAMES = [
    "a,b.jsonl",
    "a [1].jsonl",
    " a.jsonl",
    "a b.jsonl",
    "a\nb.jsonl",
    "*.jsonl",
    "a:train.jsonl",
    "-x.jsonl",
    "\u202ea.jsonl",
]
NAMES += ["'\"$(id).jsonl", "[bold]a.jsonl", "%s{}.jsonl", "\U0001f600.jsonl", "a" * 240 + ".jsonl", "a,b.jsonl.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str, here: Path, judge: Callable[..., None]) -> None:
    (here / name).write_bytes(gzip.compress(ROWS) if name.endswith(".gz") else ROWS)
    (here / "z.jsonl").write_bytes(OTHER)
    judge(TWO, "./" + name if name.startswith("-") else name)
    judge(FOUR, f"./{name},z.jsonl" if name != "*.jsonl" else ".")


def test_a_name_that_is_no_text(here: Path, judge: Callable[..., None]) -> None:
    (here / os.fsdecode(b"a\xff.jsonl")).write_bytes(ROWS + b'{"prompt": "x", "completion": ""}\n')
    judge((2, 1, 1, 0, 1), ".")
    (here / os.fsdecode(b"a\xff.jsonl")).write_bytes(b"{")
    judge("the JSON ends too early", ".")


def make_fifo(here: Path) -> None:
    os.mkfifo(here / "a.jsonl")


def make_folder(here: Path) -> None:
    (here / "a.jsonl").mkdir()


def make_loop(here: Path) -> None:
    (here / "a.jsonl").symlink_to("b.jsonl")
    (here / "b.jsonl").symlink_to("a.jsonl")


def make_dangling(here: Path) -> None:
    (here / "a.jsonl").symlink_to("gone.jsonl")


def make_unreadable(here: Path) -> None:
    (here / "a.jsonl").symlink_to("/proc/self/mem")


def make_device(here: Path) -> None:
    (here / "a.jsonl").symlink_to("/dev/zero")


def make_broken_dataset(here: Path) -> None:
    (here / "a.jsonl").mkdir()
    (here / "a.jsonl" / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))


def make_broken_state(here: Path) -> None:
    (here / "a.jsonl").mkdir()
    (here / "a.jsonl" / "dataset_info.json").write_text("{}")
    (here / "a.jsonl" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "gone.arrow"}]}))


def make_garbage_dataset(here: Path) -> None:
    make_broken_state(here)
    (here / "a.jsonl" / "gone.arrow").write_bytes(b"\xff\xff\xff\xff" + b"\0" * 100)


PLACES: tuple[tuple[Callable[[Path], None], str], ...] = (
    (make_fifo, "is not a regular file"),
    (make_folder, "contains no data files"),
    (make_loop, "is a link to something that does not exist"),
    (make_dangling, "is a link to something that does not exist"),
    (make_unreadable, "cannot be read"),
    (make_device, "is not a regular file"),
    (make_broken_dataset, "is damaged"),
    (make_broken_state, "is damaged"),
    (make_garbage_dataset, "is damaged"),
)


@pytest.mark.parametrize(("make", "expected"), PLACES, ids=[make.__name__ for make, _ in PLACES])
def test_no_files(make: Callable[[Path], None], expected: str, here: Path, judge: Callable[..., None]) -> None:
    make(here)
    judge(expected, "a.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(here: Path, judge: Callable[..., None]) -> None:
    (here / "a.jsonl").write_bytes(ROWS)
    (here / "a.jsonl").chmod(0)
    judge("permission denied", "a.jsonl")


def test_a_folder_of_traps(here: Path, judge: Callable[..., None]) -> None:
    (here / "in").mkdir()
    (here / "in" / "a.jsonl").write_bytes(ROWS)
    (here / "in" / "up").symlink_to("..")
    (here / "in" / "self").symlink_to(".")
    (here / "in" / "again.jsonl").symlink_to("a.jsonl")
    (here / "in" / "gone.jsonl").symlink_to("nowhere")
    os.mkfifo(here / "in" / "fifo.jsonl")
    judge(TWO, "in")
    judge(TWO, "in/**/*.jsonl")


def test_the_same_file_twice(here: Path, judge: Callable[..., None]) -> None:
    (here / "a.jsonl").write_bytes(ROWS)
    os.link(here / "a.jsonl", here / "hard.jsonl")
    (here / "copy.jsonl").write_bytes(ROWS)
    judge(TWO, "a.jsonl,./a.jsonl", "hard.jsonl", str(here / "a.jsonl"))
    judge((4, 1, 1, 2, 0), "a.jsonl,copy.jsonl")


MISSING = [
    "no.jsonl",
    "a" * 5000,
    "a" * 5000 + ".jsonl",
    "a" * 300 + "/b.jsonl",
    "no/no.jsonl",
    "[",
    "no*.jsonl",
    "~nobody-here/a.jsonl",
]
MISSING += ["https://x.org/a.jsonl", "a.jsonl:train", "..", "/dev/null", ","]


@pytest.mark.parametrize("name", MISSING, ids=[name[:20] for name in MISSING])
def test_nothing_there(name: str, here: Path, verdict: Callable[..., object]) -> None:
    assert isinstance(verdict(name), str)


def test_a_tar_in_disguise(here: Path, judge: Callable[..., None]) -> None:
    with tarfile.open(here / "a.jsonl", "w") as archive:
        info = tarfile.TarInfo("b.jsonl")
        info.size = len(ROWS)
        archive.addfile(info, io.BytesIO(ROWS))
    judge("a.jsonl:1", "a.jsonl")
