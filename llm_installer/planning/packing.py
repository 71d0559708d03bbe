"""Whether the plan packs several rows into one sequence, and why; training then tries whether the model can."""

from __future__ import annotations

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo


def choose_packing(hardware: Hardware, info: ModelInfo, precision: str, noise: bool) -> tuple[bool, str]:
    """Whether to pack where the user leaves it open, and why.

    `noise` says whether NEFTune is on. What the model itself can do is tried before training.
    """
    if hardware.device != "cuda":
        return False, "batches of rows of similar length are as fast here"
    if info.vision:
        return False, "rows with images are not packed"
    if noise:
        return False, "the noise of NEFTune depends on the length of a row"
    if not hardware.bf16 or precision == "float32":
        return False, "its attention needs 16 bits and a GPU of 2020 or later"
    return True, "no padding: several rows in one sequence, none of which attends to another"
