"""Methods from the options to the adapter and back: what is said, what is written, what `start` makes of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console as RichConsole

from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.inference.load import load_assistant
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.train_lora import decide, run
from llm_installer.ui.console import Console
from tests.tiers import first_here

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
Train = Callable[..., str]


@pytest.fixture
def train(installed: Path, write_rows: Callable[..., Path], tmp_path: Path) -> Train:
    """Trains on a few rows with these options; what was said."""
    write_rows(40)

    def go(**more: object) -> str:
        said = io.StringIO()
        fixed = {"model_path": str(installed), "data": "data.jsonl", "tensorboard": False, "learning_rate": 5e-3}
        run(Options(**{**fixed, "epochs": 4.0, **more}), Console(rich=RichConsole(file=said, width=300)), tmp_path)
        return said.getvalue()

    return go


@pytest.mark.parametrize(
    ("options", "quantised", "words"),
    first_here(
        [
            ({"method": "qlora"}, "nf4", "4-bit"),
            ({"use_8bit": True}, "int8", "8-bit"),
        ]
    ),
)
def test_a_quantised_run_says_so_everywhere(
    train: Train, installed: Path, options: dict[str, object], quantised: str, words: str
) -> None:
    said = train(**options)
    assert f"base weights {words}" in " ".join(said.replace("│", " ").replace("|", " ").split())
    lora = installed / "lora"
    info = json.loads((lora / "adapter_info.json").read_text())
    name = {"nf4": "qlora", "int8": "8-bit lora"}[quantised]
    assert (info["method"], info["quantised"]) == (name, quantised)
    assert info["best_loss"] < info["base_loss"]
    assert Plan.from_json(json.loads((lora.resolve().parent / "plan.json").read_text())).method.name == name
    assert f"{name}, medium" in (lora.resolve().parent / "train.log").read_text() + said
    folder = ModelDir.find(str(installed))
    whole, same = load_assistant(folder, lora), load_assistant(folder, lora, quantised)
    assert (
        f"trained on the {words} base but used on the unquantised one (add --use-{words.replace('-', '')}"
        in whole.adapter
    )
    assert "base, used on" not in same.adapter
    ids = torch.arange(3, 23)[None]
    with torch.inference_mode():
        difference = (whole.model(input_ids=ids).logits - same.model(input_ids=ids).logits).abs().max()
    assert difference > 0
    assert "trained on" not in load_assistant(folder, None, quantised).adapter


def test_a_plain_adapter_on_a_quantised_base_is_said_too(train: Train, installed: Path) -> None:
    train(skip_test=True)
    found = load_assistant(ModelDir.find(str(installed)), installed / "lora", "nf4")
    assert found.adapter.endswith("trained on the unquantised base but used on the 4-bit one")


def test_a_run_in_float8_leaves_a_plain_adapter_for_the_base_as_published(train: Train, installed: Path) -> None:
    said = train(method="fp8", epochs=2.0)
    assert "fused LoRA above float8" in said
    lora = installed / "lora"
    info = json.loads((lora / "adapter_info.json").read_text())
    assert (info["method"], info["quantised"]) == ("fp8 lora", "fp8")
    report = (lora.resolve().parent / "report.md").read_text()
    sentence = "The base was held in float8. On the base as published, which chat and merge use, the loss of the tuned"
    assert (
        sentence in report and sentence in " ".join(said.split()) and "of them, with the base as published |" in report
    )
    found = load_assistant(ModelDir.find(str(installed)), lora)
    assert found.adapter.endswith("trained on the float8 base but used on the unquantised one")


@pytest.mark.parametrize("init", first_here(["pissa", "olora"]))
def test_what_pissa_and_olora_publish_is_a_plain_adapter_for_the_whole_base(
    train: Train, installed: Path, init: str
) -> None:
    said = train(init_lora_weights=init)
    assert "Before and after" in said
    config = json.loads((installed / "lora" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (16, 64, True)
    assistant = load_assistant(ModelDir.find(str(installed)), installed / "lora")
    base = load_assistant(ModelDir.find(str(installed)), None).model
    ids = torch.arange(3, 23)[None]
    with assistant.model.disable_adapter(), torch.inference_mode():
        assert torch.equal(assistant.model(input_ids=ids).logits, base(input_ids=ids).logits)


def test_contradictions_come_before_the_data(installed: Path, tmp_path: Path) -> None:
    options = Options(model_path=str(installed), data="is-not-there.json", use_4bit=True, use_8bit=True)
    with pytest.raises(UsageError, match="--use-4bit and --use-8bit contradict each other"):
        decide(options, Console(rich=RichConsole(file=io.StringIO())), tmp_path)


def test_weights_do_not_go_into_a_run_that_would_read_them_otherwise(train: Train, installed: Path) -> None:
    train(init_lora_weights="pissa", skip_test=True)
    last = installed / "checkpoints" / "last"
    again = {"resume_from": str(last), "resume_anyway": True, "skip_test": True, "data": None, "epochs": None}
    for changed in ({"init_lora_weights": "olora"}, {"lora_r": 4}, {"use_rslora": True}, {"lora_alpha": 4.0}):
        with pytest.raises(UsageError, match="mean nothing to the new one"):
            train(**again, **changed)
            pytest.fail(f"they went into a run with {changed}")
    assert len(list((installed / "runs").iterdir())) == 1, "none of them was begun"
