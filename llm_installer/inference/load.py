"""A base model and, if there is one, the adapter that is really active on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from llm_installer.core.adapter_info import CONFIG, AdapterInfo, read_adapter_info
from llm_installer.core.errors import AdapterError
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import loss_text, short_path
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.models.base import load_base
from llm_installer.models.quantise import check_ready
from llm_installer.planning.chooser import choose_precision
from llm_installer.planning.method import QUANTISED, Method
from llm_installer.planning.registry import find_handler

INSTEAD = "choose another adapter with --lora, or use the base model alone with --no-lora"


@dataclass(frozen=True)
class Assistant:
    """A model ready to answer."""

    model: PreTrainedModel | PeftModel
    encoder: Encoder
    style: str
    """`chat` through the template, `text` for plain continuation."""
    adapter: str
    """Which adapter is active, in words for the user; empty for none."""


def load_assistant(folder: ModelDir, lora: Path | None, quantised: str = "") -> Assistant:
    """Load the base, unquantised unless `quantised` names a way, and put `lora` on it.

    Raises AdapterError when the adapter is damaged, made for another base, or without effect.
    """
    info = read_model_info(folder.weights, folder.root.name)
    about = _read_info(lora, folder) if lora else AdapterInfo()
    encoder = load_encoder(info, adapter=lora if lora and (lora / "tokenizer_config.json").is_file() else None)
    encoder.template.thinks = about.thoughts
    hardware = probe_hardware()
    precision, _ = choose_precision(info, find_handler(info), hardware)
    check_ready(Method(quantised=quantised))
    base = load_base(folder.weights, precision, hardware.device, quantised)
    base.eval()  # type: ignore[no-untyped-call]
    style = about.style or ("text" if encoder.default_template else "chat")
    if lora is None:
        return Assistant(base, encoder, style, "")
    model = _put_on(base, lora, folder).eval()
    active = _described(model, encoder, lora, about) + _on_which_base(about.quantised, quantised)
    return Assistant(model, encoder, style, active)


def _read_info(lora: Path, folder: ModelDir) -> AdapterInfo:
    try:
        return read_adapter_info(lora, folder)
    except AdapterError as error:
        raise AdapterError(f"{error}; {INSTEAD}") from None


def _put_on(model: PreTrainedModel, lora: Path, folder: ModelDir) -> PeftModel:
    from safetensors import SafetensorError

    try:
        adapted = PeftModel.from_pretrained(model, str(lora))
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        made_for = json.loads((lora / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
        first = (str(error).splitlines() or ["unknown reason"])[0]
        raise AdapterError(
            f"The adapter {short_path(lora)}, made for {made_for}, does not fit {folder.root.name} ({first}); {INSTEAD}"
        ) from None
    assert isinstance(adapted, PeftModel)
    return adapted


def _on_which_base(trained: str, loaded: str) -> str:
    """What to say where the base is not quantised as it was in training."""
    if trained == loaded:
        return ""
    on = {"": "unquantised"} | {name: words.partition(" ")[0] for name, words in QUANTISED.items()}
    same = f" (add --use-{on[trained].replace('-', '')} to use the same)" if trained else ""
    return f", trained on the {on[trained]} base but used on the {on[loaded]} one{same}"


@torch.inference_mode()
def _described(model: PeftModel, encoder: Encoder, lora: Path, about: AdapterInfo) -> str:
    """The adapter in words, once it is seen to change what the model computes. Raises AdapterError when it does not."""
    ids = torch.tensor([encoder.text_ids("Hello, who are you?")], device=model.device)
    tuned = model(input_ids=ids).logits
    with model.disable_adapter():
        base = model(input_ids=ids).logits
    if float((tuned - base).abs().max()) == 0:
        raise AdapterError(f"The adapter {short_path(lora)} changes nothing: it was never trained; {INSTEAD}")
    real = lora.resolve()
    parts = [real.parent.name if real.name == "adapter" else short_path(lora)]
    if about.best_step:
        parts.append(f"step {about.best_step:,}")
    if about.best_loss is not None:
        parts.append(f"loss {loss_text(about.base_loss)} -> {loss_text(about.best_loss)}")
    return ", ".join(parts)
