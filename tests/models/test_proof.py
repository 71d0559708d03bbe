"""A base whose weights fit and that cannot compute: one sentence before anything is done with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from llm_installer.core.errors import ModelError
from llm_installer.core.paths import ModelDir
from llm_installer.core.reading import reading
from llm_installer.inference.load import load_assistant
from llm_installer.models.base import load_base
from llm_installer.models.proof import refuse_broken
from tests.commands import command
from tests.handlers.test_families import CONFIGS


@pytest.fixture
def opt(tiny_llama: Path, tmp_path: Path) -> Path:
    """Its layers ask for a dropout wherever they compute."""
    folder = tmp_path / "opt"
    config = AutoConfig.for_model("opt", **{**CONFIGS["opt"], "vocab_size": 2048})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    return folder


def broken(folder: Path) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "dropout": 1.1}), "utf-8")
    return folder


def test_who_trains_and_who_talks_are_told_alike(opt: Path, llm_home: Path, tmp_path: Path) -> None:
    from llm_installer.install.installer import install

    root = install(str(opt), say=lambda text: None).root
    broken(root / "model")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": f"What is {n}?", "response": f"It is {n}."}) for n in range(8)))
    said = r"The model in .*opt/model cannot be loaded: dropout probability has to be between 0 and 1, but got 1\.1"
    for words in (("train", "opt", "--data", str(rows), "--epochs", "1"), ("start", "opt", "--prompt", "Hello")):
        ended = command(*words)
        assert ended.returncode == 1 and "Traceback" not in ended.stderr
        with pytest.raises(ModelError, match=said):
            raise ModelError(" ".join(ended.stderr.split()))
    with pytest.raises(ModelError, match=said):
        load_assistant(ModelDir(root), None)


def test_one_that_computes_is_as_it_was(opt: Path) -> None:
    model = load_base(opt, "float32", "cpu")
    model.train()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    refuse_broken(model, opt)
    assert model.training and torch.equal(before, torch.get_rng_state())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@dataclasses.dataclass
class Case:
    error: Exception
    about_files: bool


@pytest.mark.parametrize(
    "case",
    [
        Case(RuntimeError("The size of tensor a (8) must match the size of tensor b (10)"), True),
        Case(ValueError("Could not find a `sliding_window` argument"), True),
        Case(RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), False),
        Case(torch.OutOfMemoryError("CUDA out of memory"), False),
    ],
    ids=lambda case: str(case.error)[:20],
)
def test_too_little_memory_is_not_the_model_s_fault(case: Case) -> None:
    with pytest.raises(ModelError if case.about_files else type(case.error)), reading("The model", shapes=True):
        raise case.error
