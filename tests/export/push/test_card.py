"""The model card, as a whole, of everything that can be pushed; UPDATE_SNAPSHOTS=1 writes the files again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_installer.core.hub_base import HubBase
from llm_installer.core.model_card import data_names
from llm_installer.export.engines import Adapter
from llm_installer.export.push.card import Told, card, licence_of
from llm_installer.export.push.request import ADAPTER, GGUF, MERGED, refuse_repo, repo_name
from llm_installer.export.push.stage import shared_config, shared_info
from llm_installer.runs.report import before_and_after
from tests.export.push.made import REPORT
from tests.generated import many

SNAPSHOTS = Path(__file__).parent / "snapshots"
PLAN: dict[str, Any] = {
    "mode": "medium", "lora_r": 24, "lora_alpha": 32.0, "target_modules": ["q_proj", "v_proj"], "learning_rate": 2e-4,
    "course": {"epochs": 3.0, "effective_batch_size": 8, "schedule": "cosine"}, "max_seq_length": 512,
    "precision": "bfloat16", "weight_decay": 0.01, "seed": 42, "rows": 1200,
    "why": {"lora_r": "enough for 1,200 rows", "seed": "you set it"},
}  # fmt: skip
INFO: dict[str, Any] = {
    "data": "/srv/rows/colours.json, org/words:train", "style": "chat", "method": "lora", "base_loss": 2.5,
    "best_loss": 1.25, "best_step": 300, "steps": 450, "created_at": "2026-11-27T12:00:00+00:00", "plan": PLAN,
}  # fmt: skip
FULL = Told(
    kind=ADAPTER,
    repo="anna/colours",
    base=HubBase("org/base-1B", "c" * 40),
    model="org_base-1B",
    licence="apache-2.0",
    info=INFO,
    adapter=Adapter({"trainable_token_indices": {"lm_head": [2]}, "r": 24}, (24,), "llama"),
    compared=before_and_after(REPORT),
    picture="training_history.png",
)
CARDS = {
    "adapter": FULL,
    "bare": replace(FULL, base=None, licence="", info={}, compared="", picture="", adapter=Adapter({}, (24,), "qwen3")),
    "merged": replace(FULL, kind=MERGED, repo="anna/colours-merged"),
    "gguf": replace(FULL, kind=GGUF, repo="anna/colours-gguf", files=("README.md", "colours-f16.gguf")),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_what_it_was(name: str) -> None:
    text, file = card(CARDS[name]), SNAPSHOTS / f"{name}.md"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("adapter", {"library_name": "peft", "base_model": "org/base-1B", "base_model_relation": "adapter"}),
        ("bare", {"library_name": "peft", "inference": False}),
        ("merged", {"library_name": "transformers", "base_model_relation": "finetune", "license": "apache-2.0"}),
        ("gguf", {"library_name": "gguf", "base_model_relation": "finetune", "license": "apache-2.0"}),
    ],
)
def test_hubs_read_its_head(name: str, values: dict[str, object]) -> None:
    head = yaml.safe_load(card(CARDS[name]).split("---\n")[1])
    assert {key: head.get(key) for key in values} == values
    assert ("inference" in head) == ("license" not in head) and ("base_model" in head) == (name != "bare")


def test_nothing_of_a_folder_or_a_row_is_in_it() -> None:
    for told in CARDS.values():
        text = card(told)
        assert "/srv" not in text and "secret" not in text and "lighthouse" not in text


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("/home/a/b.json", "b.json"),
        ("b.json, ../c/d.jsonl", "b.json, d.jsonl"),
        ("org/words:train", "org/words:train"),
        (r"C:\rows\x.csv", "x.csv"),
        ("rows/x.csv", "x.csv"),
        ("~/rows/", "rows"),
        ("", ""),
    ],
)
def test_data_are_named_without_their_folders(data: str, names: str) -> None:
    assert data_names(data) == names


@pytest.mark.parametrize(
    ("file", "text", "licence"),
    [
        ("README.md", "---\nlicense: mit\nx: y\n---\n# M", "mit"),
        ("README.md", "license: mit", ""),
        ("LICENSE", "  Apache License\n  Version 2.0, January 2004", "apache-2.0"),
        ("LICENSE.txt", "Gemma Terms of Use", "gemma"),
        ("LICENSE", "All rights reserved", ""),
        ("other", "MIT License", ""),
    ],
)
def test_the_licence_is_that_of_the_base(file: str, text: str, licence: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert licence_of(tmp_path) == licence


def test_config_and_record_name_no_place() -> None:
    config = {"base_model_name_or_path": "/home/a/model", "revision": None, "lora_alpha": 16.0, "r": 8}
    assert shared_config(config, None) == {"inference_mode": True, "lora_alpha": 16, "r": 8}
    named = shared_config(config | {"lora_alpha": 2.5}, HubBase("org/base", ""))
    assert named["base_model_name_or_path"] == "org/base" and named["lora_alpha"] == 2.5 and named["revision"] is None
    info = shared_info({**INFO, "speed": {"of": "my card"}, "plan": {**PLAN, "mix": [["/srv/a.json", 0.5]]}})
    assert "speed" not in info and info["data"] == "colours.json, org/words:train"
    assert info["plan"]["mix"] == [["a.json", 0.5]]  # type: ignore[index]


@given(st.one_of(st.text(max_size=80), st.text("a-._é模:git ", max_size=12)))
@settings(max_examples=many(150), deadline=None)
@example("模型")
@example("x.git-.git")
@example("a-!b")
def test_a_repository_can_be_named_after_any_model(name: str) -> None:
    refuse_repo(f"anna/{repo_name(name)}-merged")
    refuse_repo(f"anna/{repo_name(name)}")
