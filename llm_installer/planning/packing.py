"""Whether whole documents are packed into one row, and why."""

from __future__ import annotations

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo


def choose_packing(hardware: Hardware, info: ModelInfo, precision: str, noise: bool) -> tuple[bool, str]:
    """Whether to pack where the user leaves it open. What the model itself can do is tried before training."""
    if hardware.device != "cuda":
        return False, "rows of similar length together are as fast here"
    if info.vision:
        return False, "images belong to whole rows"
    if noise:
        return False, "the noise of NEFTune depends on the length of a row"
    if not hardware.bf16 or precision == "float32":
        return False, "the attention for it needs 16 bits and a GPU of 2020 or later"
    return True, "no padding: whole rows one after the other, none of which sees another"
