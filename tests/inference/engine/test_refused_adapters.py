"""Adapters that cannot share a base with others are refused by name, with the reason and what to do; the rest go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.errors import AdapterError
from llm_installer.inference.engine.engine import Engine
from tests.inference.engine.conftest import Heard, Stories, make_adapter

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft")  # of tied weights, and of biases
REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "modules": ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "a whole layer of its own, lm_head"),
    "biases": ({"target_modules": ["q_proj"], "bias": "all"}, "it changes biases of the base"),
    "words": ({"target_modules": ["embed_tokens", "q_proj"]}, "it adapts model.embed_tokens, which is no linear layer"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_share_a_base_is_refused_by_name(
    kind: str, stories: Stories, engine: Engine, ask: Callable[..., Heard], tmp_path: Path
) -> None:
    config, why = REFUSED[kind]
    before, model = ask("The sun", "plain").ends(), engine._models._loaded.model
    layers = dict(model.named_modules())
    lora = make_adapter(stories.folder.weights, tmp_path / kind, 3, r=4, **config)
    with pytest.raises(AdapterError, match=rf"{kind} cannot be served beside others \(.*{why}.*\); merge it with"):
        engine.add(kind, lora)
    assert kind not in engine.served
    assert dict(engine._models._loaded.model.named_modules()) == layers, "the base has its own layers again"
    assert ask("The sun", "plain").ends() == before and engine.alive
