"""stories260K with adapters of several kinds on it, and what each of them answers alone."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from llm_installer.core.paths import ModelDir
from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import BASE, Done, Event, Limits, Piece, Request
from llm_installer.install.installer import install

KINDS: dict[str, dict[str, object]] = {
    "plain": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    "patterned": {"r": 2, "rank_pattern": {"down_proj": 8}, "use_rslora": True, "target_modules": "all-linear"},
    "dora": {"r": 4, "use_dora": True, "target_modules": "all-linear"},
    "taught": {"r": 4, "target_modules": "all-linear", "trainable_token_indices": {"embed_tokens": [2, 300, 410]}},
}


@dataclass
class Stories:
    """An installed model and its adapters."""

    folder: ModelDir
    adapters: dict[str, Path]


def make_adapter(weights: Path, target: Path, seed: int, strength: float = 0.05, **config: object) -> Path:
    """An adapter that changes what the model says, without a training."""
    model = AutoModelForCausalLM.from_pretrained(weights)
    torch.manual_seed(seed)
    made = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for name, value in made.named_parameters():
            if ".lora_B." in name:
                value.normal_(std=strength)
            if "trainable_tokens_delta" in name:
                value.mul_(1.5)
    made.save_pretrained(target)
    return target


@pytest.fixture(scope="session")
def stories(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Stories:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_HOME", str(home))
        root = install(str(shared / "models" / "stories260K"), say=lambda text: None).root
    folder = ModelDir(root)
    adapters = {
        name: make_adapter(folder.weights, home / name, seed, **config)
        for seed, (name, config) in enumerate(KINDS.items())
    }
    return Stories(folder, adapters)


@pytest.fixture(scope="session")
def engine(stories: Stories) -> Iterator[Engine]:
    made = Engine(stories.folder, Limits(rows=24))
    for name, path in stories.adapters.items():
        made.add(name, path)
    yield made
    made.close()


@dataclass
class Heard:
    """What came of a request."""

    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)

    def ends(self, n: int = 1) -> dict[int, tuple[str, list[int], str]]:
        """(text, token ids, reason) of each answer, once all have ended."""
        texts: dict[int, str] = dict.fromkeys(range(n), "")
        ids: dict[int, list[int]] = {index: [] for index in range(n)}
        reasons: dict[int, str] = {}
        while len(reasons) < n:
            event = self.events.get(timeout=60)
            if isinstance(event, Piece):
                texts[event.index] += event.text
                ids[event.index] += [token.id for token in event.tokens]
            else:
                assert isinstance(event, Done)
                assert event.tokens == len(ids[event.index])
                reasons[event.index] = event.reason + event.fault
        return {index: (texts[index], ids[index], reasons[index]) for index in range(n)}

    def ends_cancelled(self) -> int:
        """How many tokens were made when it was cancelled."""
        while not isinstance(event := self.events.get(timeout=60), Done):
            pass
        assert event.reason == "cancelled"
        return event.tokens


@pytest.fixture
def ask(engine: Engine) -> Callable[..., Heard]:
    """Ask the engine for a continuation of a text."""

    def asked(text: str, model: str = BASE, tokens: int = 24, **more: object) -> Heard:
        heard = Heard()
        ids = tuple(engine.served[model].encoder.text_ids(text))
        engine.submit(Request(model, ids, tokens, **more), heard.events.put)  # type: ignore[arg-type]
        return heard

    return asked
