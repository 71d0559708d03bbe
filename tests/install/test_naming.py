"""Names that a model directory can have, and models by the addresses of their pages."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.errors import InstallerError, ModelError, UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.install.naming import Page, page_of, wrong_with_name
from llm_installer.install.resolve import resolve
from tests.generated import many

ODD = {
    "empty": ["", " ", "\t"],
    "there already": [".", ".."],
    "a slash": ["a/b", "/", "a/", "\\a", "a\\b", "../x"],
    "control character": ["a\nb", "\x1b[31m", "a\x00", "\x7f", "a\u202eb", "\udc80"],
    "a dash": ["-x", "--force", "-"],
    "a tilde": ["~", "~root"],
    "hides it": [".hidden", "..."],
    "a space": [" a", "a "],
    "ends with a dot": ["a."],
    "for a device": ["CON", "nul", "Aux.txt", "com1", "LPT9.tar.gz", "prn", "com\u00b2", "CONIN$"],
    "one of": ["a:b", "what?", "a*", "a|b", '"a"', "<a>"],
    "longer than": ["x" * 201, "\u00e4" * 101],
}


@pytest.mark.parametrize(("why", "name"), [(why, name) for why, names in ODD.items() for name in names])
def test_odd_names_are_refused_with_their_reason(why: str, name: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve("tiny", name=name)
    said = str(refused.value)
    assert why in said or "control character" in said, said
    assert said.endswith("choose another with --name NAME") and said.isprintable()


@pytest.mark.parametrize(
    "name", ["tiny", "Qwen_Qwen3-0.6B", "it's a $model", "m\u00e4rchen", "console", "com10", "a.b"]
)
def test_usual_names_are_taken(name: str) -> None:
    assert resolve("tiny", name=name).dirname == name


@settings(max_examples=many(60))
@given(st.text(st.characters(), min_size=0, max_size=12) | st.from_regex(r"[.\-~ \\/a]{0,4}", fullmatch=True))
def test_whatever_is_taken_is_one_folder_that_is_found_by_its_name(name: str) -> None:
    if wrong_with_name(name):
        return
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", home)
        root = Path(home, "models", name)
        for file in (root / "model_info.json", root / "model" / "config.json"):
            file.parent.mkdir(parents=True)
            file.touch()
        assert os.listdir(Path(home, "models")) == [name]
        assert ModelDir.find(name).root == root


HUB = "https://huggingface.co"


@pytest.mark.parametrize(
    ("address", "id", "revision"),
    [
        (f"{HUB}/org/name", "org/name", None),
        (f"{HUB}/org/name/", "org/name", None),
        (f" {HUB}/org/name\n", "org/name", None),
        (f"{HUB}/org/name/tree/main", "org/name", "main"),
        (f"{HUB}/org/name/tree/v1.0/sub/folder", "org/name", "v1.0"),
        (f"{HUB}/org/name/blob/abc123/config.json", "org/name", "abc123"),
        (f"{HUB}/org/name/resolve/main/model.safetensors?download=true", "org/name", "main"),
        (f"{HUB}/org/name/commit/{'a' * 40}", "org/name", "a" * 40),
        (f"{HUB}/org/name/tree/refs%2Fpr%2F1", "org/name", "refs/pr/1"),
        (f"{HUB}/org/name/tree/refs/pr/12/x", "org/name", "refs/pr/12"),
        (f"{HUB}/org/name/tree/feature%2Fa", "org/name", "feature/a"),
        (f"{HUB}/org/name/discussions/3", "org/name", None),
        (f"{HUB}/org/name/tree", "org/name", None),
        (f"{HUB}/org/name?library=transformers#usage", "org/name", None),
        (f"{HUB}/gpt2", "gpt2", None),
        (f"{HUB}/gpt2/tree/main", "gpt2", "main"),
        ("HTTPS://HuggingFace.co/Org/Name", "Org/Name", None),
        ("http://www.huggingface.co/org/name", "org/name", None),
        ("huggingface.co/org/name", "org/name", None),
        ("hf.co/org/name/tree/dev", "org/name", "dev"),
        ("huggingface.co/gpt2", "gpt2", None),
        ("hf://org/name", "org/name", None),
        (f"{HUB}:443/models/org/name", "org/name", None),
    ],
)
def test_an_address_is_the_model_and_the_revision_in_it(address: str, id: str, revision: str | None) -> None:
    assert page_of(address) == Page(id, revision)
    source = resolve(address)
    assert (source.kind, source.id, source.revision, source.dirname) == ("hub", id, revision, id.replace("/", "_"))
    assert resolve(address, revision=revision or "v9").revision == (revision or "v9")


def test_a_hub_of_ones_own_has_addresses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example:8080")
    assert page_of("http://hub.example:8080/org/name/tree/x") == Page("org/name", "x")


@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        (
            f"{HUB}/datasets/rajpurkar/squad/viewer",
            UsageError,
            "is a dataset; train on it with: --data rajpurkar/squad",
        ),
        (f"{HUB}/spaces/org/demo", UsageError, "is a space and not a model"),
        (HUB, UsageError, "names no model"),
        (f"{HUB}/", UsageError, "names no model"),
        ("https://github.com/org/name", ModelError, "is no page of huggingface.co"),
        ("https://[x/org/name", ModelError, "neither a folder nor a hub id"),
        (f"{HUB}/org/na me", ModelError, "neither a folder nor a hub id"),
        (f"{HUB}/org/%2e%2e", ModelError, "neither a folder nor a hub id"),
    ],
)
def test_an_address_of_something_else_is_refused(address: str, error: type[InstallerError], says: str) -> None:
    with pytest.raises(error) as refused:
        resolve(address)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_two_revisions_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="names revision main, and --revision v2; give one of them"):
        resolve(f"{HUB}/org/name/tree/main", revision="v2")
    with pytest.raises(UsageError, match="--link"):
        resolve(f"{HUB}/org/name", link=True)


@given(st.text(st.sampled_from("ahf.co:/[]@?#%2e \n"), max_size=30).map(lambda end: f"https://huggingface.co/{end}"))
def test_no_address_ends_in_anything_but_a_sentence(address: str) -> None:
    try:
        source = resolve(address)
    except InstallerError as error:
        assert "\x00" not in str(error)
    else:
        assert not wrong_with_name(source.dirname)
