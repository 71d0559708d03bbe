"""`train --push`: what can be refused is refused before the training, and a push that fails ends none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer import api
from llm_installer.core.errors import HubError, UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.export.push.after import push_after, ready_to_push
from llm_installer.export.push.request import Pushed
from tests.export.push.made import ID
from tests.loopback_hub import Hub

pytestmark = pytest.mark.filterwarnings("ignore")


class Heard(Silence):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.found: list[object] = []

    def line(self, text: str = "") -> None:
        self.lines.append(text)

    def show(self, found: object) -> None:
        self.found.append(found)


def test_what_the_run_left_is_pushed(hub: Hub, folder: ModelDir) -> None:
    voice = Heard()
    push_after(folder, folder.runs / ID / "adapter", "anna/lamps", voice)
    assert isinstance(voice.found[0], Pushed) and voice.lines == []
    assert "lamps.jsonl" in hub.repos["anna/lamps"].files["README.md"].decode(), "it is known which run it was"


def test_a_push_that_fails_says_why_and_what_to_type(hub: Hub, folder: ModelDir) -> None:
    hub.uploads.refuse = {"create": (403, "", "No rights")}
    voice = Heard()
    push_after(folder, folder.runs / ID / "adapter", "anna/lamps", voice)
    assert voice.found == [] and "does not let your token write to anna/lamps" in voice.lines[0]
    assert voice.lines[1].startswith("Push it with: llm-installer push ") and "--repo anna/lamps" in voice.lines[1]


def test_a_name_or_token_that_is_missing_is_told_before_the_training(
    hub: Hub, installed: Path, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_to_push("anna/lamps")
    with pytest.raises(UsageError, match="is no name of a repository"):
        api.lora_sft(installed, write_rows(4), push="lamps")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="needs a token"):
        api.lora_sft(installed, write_rows(4), push="anna/lamps")
    assert hub.log == [] and not list((installed / "runs").iterdir())


@pytest.mark.slow
def test_a_training_pushes_its_adapter(hub: Hub, installed: Path, write_rows: Callable[..., Path]) -> None:
    given = {"epochs": 1, "skip_test": True, "tensorboard": False, "push": "anna/lamps"}
    result = api.lora_sft(installed, write_rows(4), **given)
    sent = hub.repos["anna/lamps"].files["adapter_model.safetensors"]
    assert sent == (result.adapter / "adapter_model.safetensors").read_bytes()
    hub.uploads.refuse = {"commit": (500, "", "")}
    assert api.lora_sft(installed, write_rows(5), **given).steps, "a push that fails is no failure of the run"
