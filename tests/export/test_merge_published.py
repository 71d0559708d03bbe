"""Bases that are published quantised: merged onto the dequantised base, with the receipt, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.export.merge import MergeRequest, merge
from llm_installer.inference.load import load_assistant
from llm_installer.install.installer import install
from llm_installer.models.base import load_base
from tests.models.test_published_quantised import MAKERS
from tests.tiers import minutes

pytestmark = pytest.mark.filterwarnings("ignore")
KEPT = {"nf4": "nf4", "fp4": "nf4", "int8": "int8"}
SLOWLY = ("fp4", "int8", "fp8", "mxfp4")
TARGETS = {"mxfp4": ["q_proj", "o_proj"]}


def adapter(base: Path, kind: str, folder: Path) -> Path:
    """An adapter with random values, as a run on this base leaves it."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS.get(kind, ["q_proj", "down_proj"]))
    model = get_peft_model(load_base(base, "float32", "cpu"), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, 0.0, 0.1)
    model.save_pretrained(str(folder))
    about = {"style": "chat", "quantised": KEPT.get(kind, "")}
    (folder / "adapter_info.json").write_text(json.dumps(about), "utf-8")
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("nf4", marks=pytest.mark.slow),
        *(pytest.param(kind, marks=[pytest.mark.slow, minutes]) for kind in SLOWLY),
    ],
)
def test_a_run_on_a_published_base_is_merged_onto_the_dequantised_one(
    tiny_llama: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / kind).mkdir()
    MAKERS[kind](tiny_llama, tmp_path / kind)
    load_tokenizer(tiny_llama).save_pretrained(tmp_path / kind)
    folder = ModelDir.find(install(str(tmp_path / kind), name="base", say=lambda text: None).root)
    lora = adapter(folder.weights, kind, tmp_path / "lora")
    with pytest.raises(UsageError, match=r"^--onto full needs full-precision weights, and those of base are published"):
        merge(folder, MergeRequest(lora=str(lora), onto="full", to="merged"), Silence())
    found = merge(folder, MergeRequest(lora=str(lora), to="merged"), Silence())
    receipt = found.receipt
    assert receipt.onto == "dequantised" == receipt.nearer and receipt.dtype == "float32"
    assert receipt.tuned.kl < 1e-6 and receipt.tuned.same_top == 1 and receipt.tokens_equal
    assert receipt.as_trained["dequantised"].kl < (1e-3 if kind == "int8" else 1e-6), "as it was trained"
    assert receipt.trained.kl > 100 * receipt.tuned.kl
    config = json.loads((found.folder.weights / "config.json").read_text("utf-8"))
    assert "quantization_config" not in config
    weights = load_file(found.folder.weights / "model.safetensors")
    assert {each.dtype for each in weights.values()} == {torch.float32}
    assert not (found.folder.root / ".base").exists()
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        tuned = load_assistant(folder, lora, precision="float32").model(input_ids=ids).logits
        merged = load_assistant(found.folder, None, precision="float32").model(input_ids=ids).logits
    assert (tuned - merged).abs().max() < (0.05 if kind == "int8" else 1e-4)
