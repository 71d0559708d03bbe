"""What a --data string means: files, folders, patterns, lists of them, and what is said about each."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.sources import Source, find_sources

FILES = (
    "a.json",
    "b.JSONL",
    "c.csv.gz",
    "with space.txt",
    "a,b.json",
    "x[1].json",
    "x1.json",
    "star*.txt",
    " lead.txt",
    "colon:train.json",
    "sub/d.parquet",
    "sub/deep/e.yaml",
    "sub/note.md",
    "readme.md",
    "data.bin",
    "pic.png",
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


def names(data: str, base: Path) -> list[str]:
    return [source.name for source in find_sources(data, base)[0]]


MEANINGS = [
    ("a.json", ["a.json"]),
    ("./a.json", ["a.json"]),
    ("sub/../a.json", ["a.json"]),
    ("b.JSONL", ["b.JSONL"]),
    ("with space.txt", ["with space.txt"]),
    ("a,b.json", ["a,b.json"]),
    ("a,b.json,a.json", ["a,b.json", "a.json"]),
    ("a.json,a,b.json , b.JSONL", ["a,b.json", "a.json", "b.JSONL"]),
    ("a.json, b.JSONL,", ["a.json", "b.JSONL"]),
    (",a.json,,", ["a.json"]),
    ("b.JSONL,a.json", ["a.json", "b.JSONL"]),
    ("x[1].json", ["x[1].json"]),
    ("x[12].json", ["x1.json"]),
    ("star*.txt", ["star*.txt"]),
    (" lead.txt", [" lead.txt"]),
    ("colon:train.json", ["colon:train.json"]),
    ("*.json", ["a,b.json", "a.json", "colon:train.json", "x1.json", "x[1].json"]),
    ("?.*", ["a.json", "b.JSONL", "c.csv.gz"]),
    ("sub/*.md", ["sub/note.md"]),
    ("sub/note.md", ["sub/note.md"]),
    ("sub", ["sub/d.parquet", "sub/deep/e.yaml"]),
    ("sub/", ["sub/d.parquet", "sub/deep/e.yaml"]),
    ("su*", ["sub/d.parquet", "sub/deep/e.yaml"]),
    ("sub/**", ["sub/d.parquet", "sub/deep/e.yaml"]),
    ("**/*.yaml,a.json", ["a.json", "sub/deep/e.yaml"]),
    ("sub/deep,*.JSONL,a,b.json", ["a,b.json", "b.JSONL", "sub/deep/e.yaml"]),
    ("readme.md", ["readme.md"]),
]


@pytest.mark.parametrize(("data", "expected"), MEANINGS, ids=[row[0] for row in MEANINGS])
def test_meanings(base: Path, data: str, expected: list[str]) -> None:
    sources = find_sources(data, base)[0]
    assert [source.name for source in sources] == expected
    assert all(source.path.is_absolute() and source.path == base / source.name for source in sources)


def test_a_file_outside_the_base_has_its_whole_name(base: Path) -> None:
    assert find_sources("../" + base.name + "/a.json", base)[0] == [Source(base / "a.json", "a.json")]
    assert names("../a.json", base / "sub") == [str(base / "a.json")]
    assert names(str(base / "a.json"), base / "sub") == [str(base / "a.json")]
    assert names(str(base / "a.json"), base) == ["a.json"]


def test_home(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(base))
    expected = [str(base / "a.json"), str(base / "sub" / "deep" / "e.yaml")]
    assert names("~/a.json,~/sub/**/*.yaml", base / "sub" / "deep") == [expected[0], "e.yaml"]
    assert names("~/a.json,~/sub/**/*.yaml", Path("/")) == [name.lstrip("/") for name in expected]


def test_dot_dot_through_a_link_goes_where_the_system_goes(base: Path) -> None:
    (base / "other" / "inner").mkdir(parents=True)
    (base / "other" / "a.json").write_text("{}")
    (base / "link").symlink_to(base / "other" / "inner")
    [source] = find_sources("link/../a.json", base)[0]
    assert source.path.samefile(base / "other" / "a.json")


def test_notes_of_a_folder(base: Path) -> None:
    notes = find_sources(".", base)[1]
    assert notes == [
        f"{base}: using 12 files:  lead.txt, a,b.json, a.json, b.JSONL, c.csv.gz and 7 more",
        f"{base}: skipped data.bin (not a kind of file that holds data here); pic.png (a picture, sound or video); "
        f"readme.md (a document about the data); sub/note.md (Markdown, used only when named)",
    ]
    assert find_sources("a.json", base)[1] == []


SKIPPED = (
    ".hidden.json .git/x.json __pycache__/x.json __MACOSX/x.json README README.txt LICENSE LICENSE.txt dataset_info.json "
    "config.json x.json~ x.json.bak x.jsonl.orig .x.json.swp x.csv.tmp #x.json# ~$x.csv x.png x.JPG x.wav y.md x.py x"
).split()


def test_what_is_no_data(tmp_path: Path) -> None:
    for name in [*SKIPPED, "data.json"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "dangling.json").symlink_to("nowhere")
    sources, notes = find_sources(".", tmp_path)
    assert [source.name for source in sources] == ["data.json"]
    shown = [name for name in SKIPPED if not name.startswith((".", "__"))]
    for name in [*shown[5:], "pipe.json (not a regular file)", "dangling.json (a link to a file that does not exist)"]:
        assert name in notes[1] or "more" in notes[1]
    assert not any(hidden in notes[1] for hidden in (".hidden", ".git", "__pycache__", "__MACOSX"))
    assert names("*", tmp_path) == ["data.json"]


def test_the_same_file_is_used_once(base: Path) -> None:
    (base / "z.json").symlink_to("a.json")
    (base / "zz.json").hardlink_to(base / "b.JSONL")
    sources, notes = find_sources("z.json,a.json,./a.json,zz.json,b.JSONL", base)
    assert [source.name for source in sources] == ["a.json", "b.JSONL"]
    assert notes == [
        "a.json is used once, though given as z.json too",
        "b.JSONL is used once, though given as zz.json too",
    ]
    assert find_sources("a.json,./a.json", base)[1] == ["a.json is used once, though given more than once"]
    assert names("sub,sub/deep,sub/**/*.yaml", base) == ["sub/d.parquet", "sub/deep/e.yaml"]


def test_loops_of_links_end(base: Path) -> None:
    (base / "sub" / "again").symlink_to(base / "sub")
    (base / "sub" / "up").symlink_to(base)
    (base / "sub" / "self.json").symlink_to("self.json")
    found = names("sub", base)
    assert "sub/d.parquet" in found
    assert len([name for name in found if name.endswith("e.yaml")]) == 1
    assert len([name for name in names("**/*.yaml", base) if name.endswith("e.yaml")]) == 1
    with pytest.raises(DataError, match=r"sub/self\.json is a link to something that does not exist"):
        find_sources("sub/self.json", base)


MISSING = [
    ("b.json", "There is no b.json in {base}; did you mean "),
    ("a.jsn", "There is no a.jsn in {base}; did you mean a.json"),
    ("A.JSON", "did you mean a.json"),
    ("sub/d.parqet", "did you mean sub/d.parquet?"),
    ("./nothing", "There is no ./nothing in {base}; correct the path"),
    ("/no/such/place/x.json", "neither does the folder /no/such/place"),
    ("no/such/x.json", "neither does the folder {base}/no/such"),
    ("~nobody-here/x.json", "does not exist"),
    ("not a name", "There is no not a name in {base}"),
    ("a.json,zebra.csv", "There is no zebra.csv in {base}"),
    ("a.json:train", 'a.json has no splits to choose from, so ":train" means nothing; give a.json alone'),
    ("sub:train", "sub has no splits to choose from"),
    ("q*.json", "No file matches q*.json in {base}; look what is there with: ls {base}"),
    ("*.png", "*.png holds no data files (skipped pic.png (a picture, sound or video)); data files end in .json"),
    ("data.bin", "data.bin is not a kind of file that can be read; known are .json"),
    ("pic.png", "pic.png is not a kind of file that can be read"),
    ("https://example.org/x.json", "download the file first, for example with: curl -LO https://example.org/x.json"),
    ("", "--data is empty"),
    (" , ", "--data is empty"),
    ("x" * 5000 + ".json", "There is no xxx"),
    ("a\0b.json", "There is no a"),
]


@pytest.mark.parametrize(("data", "message"), MISSING, ids=[row[0][:40] for row in MISSING])
def test_missing(base: Path, data: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        find_sources(data, base)
    assert message.format(base=base) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("x.xlsx", "save the sheet as CSV"), ("x.tar.gz", "unpack it"), ("x.PDF", ".txt"), ("x.jsonl.zst", "unzstd")],
)
def test_well_known_files_that_are_not_read(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=f"{name} is not a kind of file that can be read; .*{advice}"):
        find_sources(name, tmp_path)


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^empty holds no data files; data files end in \.json"):
        find_sources("empty", tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json is not a regular file"):
        find_sources("pipe.json", tmp_path)


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
    with pytest.raises(DataError, match=r"^broken\.zip is a damaged zip file, or none"):
        find_sources("broken.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("x.png", "")
    with pytest.raises(DataError, match=r"^none\.zip holds no data files \(skipped x\.png"):
        find_sources("none.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("x.json", "{}")
    content = bytearray((tmp_path / "locked.zip").read_bytes())
    content[6] |= 1  # the flags of the member, in its own header and in the directory at the end
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"^locked\.zip asks for a password"):
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
