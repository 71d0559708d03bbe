"""Whether a base that was loaded can compute at all, found out before anything is done with it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from llm_installer.core.config import CONFIG
from llm_installer.core.reading import reading
from llm_installer.core.text import short_path


def refuse_broken(model: PreTrainedModel, folder: Path) -> None:
    """Raise ModelError where two tokens cannot go through it: its weights fit, and fields of its config contradict each
    other.

    Weights that are quantised here are left out: on a CPU that would take a minute.
    """
    if getattr(model, "is_quantized", False) or model.device.type == "meta":
        return
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    training = model.training
    with reading(f"The model in {short_path(folder)}", files=(folder / CONFIG,), shapes=True), torch.no_grad():
        model.eval()(input_ids=ids, use_cache=False)  # type: ignore[no-untyped-call]
    model.train(training)
