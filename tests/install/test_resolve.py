"""What MODEL means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, ModelError, UsageError
from llm_installer.install.resolve import resolve
from llm_installer.install.tiny import MODEL_DIR


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("model", "name", "kind", "dirname"),
    [
        ("tiny", None, "built-in", "tiny"),
        ("tiny", "first", "built-in", "first"),
        ("gpt2", None, "hub", "gpt2"),
        ("org/Name-1.5B_x", None, "hub", "org_Name-1.5B_x"),
        ("org/name", "mine", "hub", "mine"),
        ("small", None, "folder", "small"),
        ("./small", "mein m\u00e4rchen", "folder", "mein m\u00e4rchen"),
    ],
)
def test_words_have_one_meaning(
    model: str, name: str | None, kind: str, dirname: str, make_model: Callable[..., Path]
) -> None:
    make_model("small")
    source = resolve(model, name=name)
    assert (source.kind, source.dirname) == (kind, dirname)


def test_a_path_that_exists_wins_over_a_hub_id(make_model: Callable[..., Path]) -> None:
    folder = make_model("org/name")
    source = resolve("org/name")
    assert (source.kind, source.id, source.dirname) == ("folder", str(folder), "name")


def test_tiny_is_always_the_built_in_model_and_its_folder_needs_a_path(make_model: Callable[..., Path]) -> None:
    folder = make_model("tiny")
    assert resolve("tiny").folder == MODEL_DIR
    assert resolve("./tiny").folder == folder


def test_the_current_folder_is_called_by_its_own_name(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_model("small"))
    assert resolve(".").dirname == "small"


@pytest.mark.parametrize(
    ("model", "options", "error", "says"),
    [
        ("", {}, UsageError, "hub id (org/name), a folder, or tiny"),
        ("./nowhere", {}, ModelError, "nowhere is neither a folder nor a hub id"),
        ("a/b/c", {}, ModelError, "a/b/c is neither a folder nor a hub id"),
        ("https://example.org/a/b", {}, ModelError, "hub id (org/name)"),
        ("file.gguf", {}, ModelError, "is a file"),
        ("org/name", {"link": True}, UsageError, "--link"),
        ("tiny", {"link": True}, UsageError, "--link"),
        ("tiny", {"revision": "main"}, UsageError, "--revision"),
        ("small", {"revision": "main"}, UsageError, "--revision"),
        ("tiny", {"name": "a/b"}, UsageError, "--name"),
        ("tiny", {"name": ".."}, UsageError, "--name"),
        ("tiny", {"name": ".hidden"}, UsageError, "--name"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    model: str,
    options: dict[str, bool | str],
    error: type[InstallerError],
    says: str,
    here: Path,
    make_model: Callable[..., Path],
) -> None:
    make_model("small")
    (here / "file.gguf").write_bytes(b"GGUF")
    with pytest.raises(error) as refused:
        resolve(model, **options)  # type: ignore[arg-type]
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_model_directory_is_recognised(here: Path, make_model: Callable[..., Path]) -> None:
    make_model("dir/model")
    with pytest.raises(ModelError, match="is already a model directory"):
        resolve("dir")
