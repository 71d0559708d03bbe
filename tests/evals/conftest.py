"""The built-in model with two adapters, one clearly better than the other: made once, by a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.install.tiny import MODEL_DIR, QUESTIONS_FILE


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`good` has seen the built-in questions for a few steps; `faint`, a DoRA, has hardly been trained."""
    import torch
    from peft import LoraConfig, get_peft_model

    from llm_installer.data.batches import collate
    from llm_installer.data.encoding.encode import Encoder
    from llm_installer.data.encoding.tokenizer import load_tokenizer
    from llm_installer.models.base import load_base

    encoder = Encoder(load_tokenizer(MODEL_DIR))
    records = [json.loads(line) for line in QUESTIONS_FILE.read_text("utf-8").splitlines()]
    asked = [(Message("user", one["question"]), Message("assistant", one["answer"])) for one in records]
    rows = [row for turns in asked for row in encoder.encode(Example(turns, Origin("")))]
    batch = collate(rows[:16], encoder.eos)
    ids, at, targets = (torch.from_numpy(each) for each in (batch.ids, batch.positions, batch.targets))
    found = {}
    for name, steps, dora in (("good", 12, False), ("faint", 1, True)):
        torch.manual_seed(0)
        config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "up_proj", "down_proj"], use_dora=dora)
        model = get_peft_model(load_base(MODEL_DIR, "float32", "cpu"), config)
        rate = 1e-2 if steps > 1 else 1e-4
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
        for _ in range(steps):
            logits = model(input_ids=ids).logits.flatten(0, 1)[at]
            torch.nn.functional.cross_entropy(logits, targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        found[name] = tmp_path_factory.mktemp("adapters") / name
        model.save_pretrained(str(found[name]))
    return found


@pytest.fixture
def tiny(llm_home: Path) -> Path:
    """The built-in model as a model directory."""
    from llm_installer.install.installer import install

    return install("tiny", say=lambda text: None).root
