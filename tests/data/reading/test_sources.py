"""What a --data string means: files, folders, patterns, lists of them, and what is said about each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.reading.sources import Source, find_sources

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
        f"{base}: skipped data.bin (not a kind of data file); pic.png (a picture, sound or video); "
        f"readme.md (a document about the data); sub/note.md (Markdown, used only when named)",
    ]
    assert find_sources("a.json", base)[1] == []


def test_the_same_file_is_used_once(base: Path) -> None:
    (base / "z.json").symlink_to("a.json")
    (base / "zz.json").hardlink_to(base / "b.JSONL")
    sources, notes = find_sources("z.json,a.json,./a.json,zz.json,b.JSONL", base)
    assert [source.name for source in sources] == ["a.json", "b.JSONL"]
    assert notes == [
        "a.json is used once, although it was given as z.json too",
        "b.JSONL is used once, although it was given as zz.json too",
    ]
    assert find_sources("a.json,./a.json", base)[1] == ["a.json is used once, although it was given more than once"]
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
    ("b.json", "There is no b.json in {base} (did you mean "),
    ("a.jsn", "There is no a.jsn in {base} (did you mean a.json"),
    ("A.JSON", "did you mean a.json"),
    ("sub/d.parqet", "did you mean sub/d.parquet?"),
    ("./nothing", "There is no ./nothing in {base}; correct the path"),
    ("/no/such/place/x.json", "neither does the folder /no/such/place"),
    ("no/such/x.json", "neither does the folder {base}/no/such"),
    ("~nobody-here/x.json", "does not exist"),
    ("not a name", "There is no not a name in {base}"),
    ("{base}/b.json", "There is no {base}/b.json (did you mean "),
    ("{base}/q*.json", "No file matches {base}/q*.json; correct the path"),
    ("a.json,zebra.csv", "There is no zebra.csv in {base}"),
    ("a.json:train", 'a.json has no splits to choose from; give it without ":train"'),
    ("sub:train", "sub has no splits to choose from"),
    ("q*.json", "No file matches q*.json in {base}; correct the path"),
    ("*.png", "*.png contains no data files (skipped pic.png (a picture, sound or video)); data files end in .json"),
    ("data.bin", "data.bin is not a kind of file that can be read; known endings are .json"),
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
        find_sources(data.format(base=base), base)
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
    with pytest.raises(DataError, match=r"^empty contains no data files; data files end in \.json"):
        find_sources("empty", tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json is not a regular file"):
        find_sources("pipe.json", tmp_path)
