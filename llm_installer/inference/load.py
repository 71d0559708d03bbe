"""A base model and, if there is one, the adapter that is really active on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from llm_installer.core.errors import AdapterError
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.inference.adapter_files import read_adapter_info
from llm_installer.models.base import load_base
from llm_installer.planning.chooser import choose_precision
from llm_installer.planning.method import QUANTISED, Method
from llm_installer.planning.registry import find_handler
from llm_installer.training.optimizers import check_ready


@dataclass(frozen=True)
class Assistant:
    """A model ready to answer."""

    model: Any
    encoder: Encoder
    style: str
    """`chat` through the template, `text` for plain continuation."""
    adapter: str
    """Which adapter is active, in words for the user; empty for none."""


def load_assistant(folder: ModelDir, lora: Path | None, quantised: str = "") -> Assistant:
    """Load the base, `quantised` or whole, and put `lora` on it.

    Raises AdapterError when the adapter is torn, foreign or without effect.
    """
    info = read_model_info(folder.weights, folder.root.name)
    details = read_adapter_info(lora, folder) if lora else {}
    encoder = load_encoder(info, adapter=lora if lora and (lora / "tokenizer_config.json").is_file() else None)
    hardware = probe_hardware()
    precision, _ = choose_precision(info, find_handler(info), hardware)
    check_ready(Method(quantised=quantised))
    model: Any = load_base(folder.weights, precision, hardware.device, quantised)
    active = ""
    if lora:
        model = _put_on(model, lora, folder)
        active = _proven(model, encoder, lora, details)
        active += _on_which_base(str(details.get("quantised") or ""), quantised)
    model.eval()
    own = "text" if encoder.default_template else "chat"
    return Assistant(model, encoder, str(details.get("style", own)), active)


def _put_on(model: Any, lora: Path, folder: ModelDir) -> PeftModel:
    from safetensors import SafetensorError

    try:
        adapted = PeftModel.from_pretrained(model, str(lora))
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        made_for = json.loads((lora / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
        first = (str(error).splitlines() or ["unknown reason"])[0]
        raise AdapterError(
            f"The adapter {lora}, made for {made_for}, does not fit {folder.root.name} ({first}); "
            "give another one with --lora, or answer without: --no-lora"
        ) from None
    assert isinstance(adapted, PeftModel)
    return adapted


def _on_which_base(trained: str, loaded: str) -> str:
    """What to say where the base is not held as it was in training."""
    if trained == loaded:
        return ""
    on = {"": "whole"} | {name: words.partition(" ")[0] for name, words in QUANTISED.items()}
    same = f" (--use-{on[trained].replace('-', '')} for the same)" if trained else ""
    return f", trained on the {on[trained]} base, used on the {on[loaded]} one{same}"


@torch.inference_mode()
def _proven(model: PeftModel, encoder: Encoder, lora: Path, details: dict[str, Any]) -> str:
    """Describe the adapter, having seen that it changes what the model computes; AdapterError when it does not."""
    ids = torch.tensor([encoder.text_ids("Hello, who are you?")], device=model.device)
    model.eval()
    tuned = model(input_ids=ids).logits
    with model.disable_adapter():
        base = model(input_ids=ids).logits
    change = float((tuned - base).abs().max())
    if change == 0:
        raise AdapterError(f"The adapter {lora} changes nothing: it was not trained; answer without it: --no-lora")
    real = lora.resolve()
    name = real.parent.name if real.name == "adapter" else str(lora)
    parts = [name]
    if details.get("best_step"):
        parts.append(f"step {details['best_step']}")
    if details.get("best_loss") is not None:
        parts.append(f"loss {details['base_loss']:.4f} -> {details['best_loss']:.4f}")
    return ", ".join(parts)
