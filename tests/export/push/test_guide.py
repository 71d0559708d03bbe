"""The snippets of docs/guides/sharing.md and of a model card, executed as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.export import measure
from llm_installer.export.engines import Adapter
from llm_installer.export.merge import merge
from llm_installer.export.push.card import Told, card
from llm_installer.export.push.request import ADAPTER
from llm_installer.export.request import MergeRequest
from tests.export.push.made import ID

pytestmark = pytest.mark.filterwarnings("ignore")
GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "sharing.md").read_text(encoding="utf-8")


def snippets(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.S | re.M)


def test_peft_and_transformers_answer_as_the_guide_says(
    folder: ModelDir, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "LENGTH", 4)
    lora = folder.runs / ID / "adapter"
    merged = merge(folder, MergeRequest(lora=str(lora), to=str(tmp_path / "merged")), Silence()).folder
    monkeypatch.chdir(tmp_path)
    for name, place in (("BASE", folder.weights), ("ADAPTER", lora), ("MERGED", merged.weights)):
        (tmp_path / name).symlink_to(place)
    with_adapter, alone = snippets(GUIDE)
    capsys.readouterr()
    exec(with_adapter, {})
    answer = capsys.readouterr().out
    exec(alone, {})
    assert answer.strip() and capsys.readouterr().out == answer, "merged, it answers the same"


def test_the_code_of_a_card_loads_the_adapter(
    folder: ModelDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder.runs / ID / "adapter", tmp_path / "anna" / "lamps")
    (tmp_path / "THE_BASE").symlink_to(folder.weights)
    told = Told(ADAPTER, "anna/lamps", None, "lamp-model", "", {}, Adapter({}, (), "llama"))
    names: dict[str, object] = {}
    (code,) = snippets(card(told))
    exec(code, names)
    assert type(names["model"]).__name__ == "PeftModelForCausalLM" and names["tokenizer"]
