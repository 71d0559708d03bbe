"""An adapter is judged by its files before anything heavy happens: whole, and made for this base."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.adapter_info import AdapterInfo, merged_info, read_adapter_info
from llm_installer.core.errors import AdapterError
from llm_installer.core.manifest import MANIFEST, write_manifest
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir

EMPTY = b"\2" + bytes(7) + b"{}"
"""A safetensors file without a tensor."""


@pytest.fixture
def adapter(installed: Path, tmp_path: Path) -> Path:
    """An adapter of ours, by its files."""
    folder = tmp_path / "an adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(EMPTY)
    base = {"name": "tiny-llama", "fingerprint": fingerprint(installed / "model")}
    (folder / "adapter_info.json").write_text(json.dumps({"base_model": base, "style": "chat"}))
    write_manifest(folder)
    return folder


def test_a_whole_one_is_taken(adapter: Path, installed: Path) -> None:
    assert read_adapter_info(adapter, ModelDir(installed)).style == "chat"


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        (
            lambda f: (f / "adapter_model.safetensors").write_bytes(b"weightz"),
            "safetensors has changed since it was written",
        ),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "is incomplete: adapter_model.safetensors is missing"),
        (lambda f: (f / "adapter_info.json").unlink(), "adapter_info.json is missing"),
        (lambda f: (f / "adapter_config.json").unlink(), "is incomplete: adapter_config.json is missing"),
        (lambda f: (f / MANIFEST).write_text("{"), "manifest.json cannot be read"),
        (lambda f: (f / MANIFEST).write_text("[1]"), "manifest.json is not a list of hashes"),
    ],
)
def test_a_damaged_one_is_refused_by_name(
    adapter: Path, installed: Path, damaged: Callable[[Path], object], says: str
) -> None:
    damaged(adapter)
    with pytest.raises(AdapterError, match=says) as error:
        read_adapter_info(adapter, ModelDir(installed))
    assert str(adapter) in str(error.value)


def test_one_from_elsewhere_has_no_manifest_and_is_taken(adapter: Path, installed: Path) -> None:
    for name in (MANIFEST, "adapter_info.json"):
        (adapter / name).unlink()
    assert read_adapter_info(adapter, ModelDir(installed)) == AdapterInfo()


@pytest.mark.parametrize(
    "field", ["modules_to_save", "target_modules", "exclude_modules", "layers_pattern", "revision"]
)
@pytest.mark.parametrize("value", ["huge " * 20_000, ["q_proj", "huge " * 20_000]])
def test_a_name_is_no_book(field: str, value: object, adapter: Path, installed: Path) -> None:
    (adapter / MANIFEST).unlink()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", field: value}))
    with pytest.raises(AdapterError, match=rf"{field} in .*adapter_config\.json must be a (text|list)"):
        read_adapter_info(adapter, ModelDir(installed))


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("target_modules", "(a+)+$", "a list of names, or a pattern without repeats inside repeats"),
        ("exclude_modules", "(.*a){30}x", "a list of names, or a pattern without repeats inside repeats"),
        ("modules_to_save", ["lm_head", "(x|xx)+y"], "a list of names, or a pattern without repeats inside repeats"),
        ("rank_pattern", {"(a*)*b": 8}, "an object of whole numbers"),
        ("alpha_pattern", {"(a+)+": 8}, "an object of finite numbers"),
        ("peft_type", None, "the kind of the adapter, as LORA"),
    ],
)
def test_nothing_in_a_config_takes_for_ever_or_says_nothing(
    field: str, value: object, wanted: str, adapter: Path, installed: Path
) -> None:
    (adapter / MANIFEST).unlink()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", field: value}))
    with pytest.raises(AdapterError, match=rf"{field} in .*adapter_config\.json must be {re.escape(wanted)}"):
        read_adapter_info(adapter, ModelDir(installed))


@pytest.mark.parametrize(
    ("record", "style", "thoughts"),
    [
        ('{"lineage": {"style": "text", "thoughts": true}}', "text", True),
        ('{"lineage": null}', "", False),
        ("{}", "", False),
        ("not JSON", "", False),
    ],
)
def test_a_merged_model_is_talked_to_as_it_was_trained(record: str, style: str, thoughts: bool, tmp_path: Path) -> None:
    (tmp_path / "model_info.json").write_text(record, encoding="utf-8")
    found = merged_info(tmp_path / "model_info.json")
    assert (found.style, found.thoughts) == (style, thoughts)
