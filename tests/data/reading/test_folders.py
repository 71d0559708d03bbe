"""Folders, zips and permissions: which files are taken up, which are passed over, and why."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.reading.sources import Source, find_sources


def names(data: str, base: Path) -> list[str]:
    return [source.name for source in find_sources(data, base)[0]]


DOCUMENT, BACKUP, SETTINGS = "a document about the data", "a backup or unfinished copy", "settings, not data"
PICTURE, OTHER, HIDDEN = "a picture, sound or video", "not a kind of data file", ""
SKIPPED = [
    *[
        (name, HIDDEN)
        for name in (".hidden.json", ".git/x.json", "__pycache__/x.json", "__MACOSX/x.json", ".x.json.swp")
    ],
    *[(name, DOCUMENT) for name in ("README", "ReadMe.txt", "LICENSE", "licence.md", "NOTICE.txt", "requirements.txt")],
    *[(name, BACKUP) for name in ("x.json~", "x.json.bak", "x.jsonl.orig", "x.csv.tmp", "#x.json#", "~$x.csv")],
    *[(name, SETTINGS) for name in ("dataset_info.json", "dataset_infos.json", "config.json", "tokenizer.json")],
    *[(name, PICTURE) for name in ("x.png", "x.JPG", "x.wav")],
    *[(name, OTHER) for name in ("x.py", "x", "x.gz", "x.json.xz")],
    ("y.md", "Markdown, used only when named"),
]


@pytest.mark.parametrize(("name", "reason"), SKIPPED, ids=[row[0] for row in SKIPPED])
def test_what_is_no_data(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    (tmp_path / "data.json").write_text("{}")
    sources, notes = find_sources(".", tmp_path)
    assert [source.name for source in sources] == ["data.json"]
    assert notes == [
        f"{tmp_path}: using 1 file: data.json",
        *([f"{tmp_path}: skipped {name} ({reason})"] if reason else []),
    ]
    assert names("*", tmp_path) == ["data.json"]
    assert names("**", tmp_path) == ["data.json"]


def test_what_cannot_be_opened_is_no_data(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "dangling.json").symlink_to("nowhere")
    (tmp_path / "data.json").write_text("{}")
    sources, notes = find_sources(".", tmp_path)
    assert [source.name for source in sources] == ["data.json"]
    assert notes[1] == (
        f"{tmp_path}: skipped dangling.json (a link to a file that does not exist); pipe.json (not a regular file)"
    )


def test_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("z.jsonl", "in/b.csv", "README.md", "__MACOSX/in/._b.csv", "in/.c.json", "c.zip", "p.png"):
            archive.writestr(name, "{}")
    sources, notes = find_sources("a.zip", tmp_path)
    path = tmp_path / "a.zip"
    assert sources == [
        Source(path, "a.zip!in/b.csv", member="in/b.csv"),
        Source(path, "a.zip!z.jsonl", member="z.jsonl"),
    ]
    assert notes == [
        "a.zip: skipped README.md (a document about the data); c.zip (a zip inside a zip); "
        "p.png (a picture, sound or video)"
    ]
    assert [source.name for source in find_sources(".,a.zip", tmp_path)[0]] == ["a.zip!in/b.csv", "a.zip!z.jsonl"]


def test_a_zip_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(DataError, match=r"^broken\.zip is a damaged zip file, or not a zip file"):
        find_sources("broken.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("x.png", "")
    with pytest.raises(DataError, match=r"^none\.zip contains no data files \(skipped x\.png"):
        find_sources("none.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("x.json", "{}")
    content = bytearray((tmp_path / "locked.zip").read_bytes())
    content[6] |= 1  # the flags of the member, in its own header and in the directory at the end
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"^locked\.zip needs a password"):
        find_sources("locked.zip", tmp_path)


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder in which permissions count, also for tests that run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "dir").mkdir()
    (folder / "x.json").write_text("{}")
    (folder / "x.json").chmod(0)
    (folder / "dir" / "y.json").write_text("{}")
    (folder / "dir").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    (folder / "dir").chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("data", ["x.json", "dir", "dir/y.json", "*.json", "."])
def test_what_may_not_be_read(locked: Path, data: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(permission denied\); allow it with: chmod u\+r"):
        find_sources(data, locked)


PARTS = [
    (["train.jsonl", "valid.jsonl", "test.jsonl"], {"train.jsonl": "", "valid.jsonl": "validation"}),
    (["train-0-of-2.csv", "valid_1.csv", "Test-0.csv"], {"train-0-of-2.csv": "", "valid_1.csv": "validation"}),
    (["train.json", "more.json", "sub/dev.json"], {"more.json": "", "sub/dev.json": "validation", "train.json": ""}),
    (["training.json.gz", "eval.json"], {"eval.json": "validation", "training.json.gz": ""}),
    (["a.json", "valid.json", "test.json"], {"a.json": "", "test.json": "", "valid.json": ""}),
    (["train.json", "testimony.json", "dev1.json"], dict.fromkeys(["dev1.json", "testimony.json", "train.json"], "")),
]  # fmt: skip


@pytest.mark.parametrize(("there", "expected"), PARTS, ids=[" ".join(there) for there, _ in PARTS])
def test_names_say_what_files_are_for(tmp_path: Path, there: list[str], expected: dict[str, str]) -> None:
    """Where one is named for training; without one, all are learned."""
    for name in there:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("[]")
    sources, notes = find_sources("in", tmp_path)
    assert {source.name.removeprefix("in/"): source.part for source in sources} == expected
    said = "\n".join(notes)
    assert ("used for validation, not for training, by its name" in said) == ("validation" in expected.values())
    for name in there:
        assert (name not in expected) == (f"{name} (a test set by its name" in said)
    (alone,) = find_sources(f"in/{there[-1]}", tmp_path)[0]
    assert alone.part == "", "a file that is named itself is learned"
