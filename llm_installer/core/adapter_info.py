"""Whether an adapter is complete and made for this base, found out from its files alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import AdapterError
from llm_installer.core.manifest import MANIFEST, damage
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import short_path

INFO = "adapter_info.json"
CONFIG = "adapter_config.json"
WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class AdapterInfo:
    """What chat needs to know of an adapter's origin; the defaults stand for an adapter made elsewhere."""

    style: str = ""
    """`chat` or `text`; empty where it is unknown."""
    quantised: str = ""
    """How the base was quantised in training: a name of planning.method.QUANTISED, or empty."""
    thoughts: bool = False
    """Whether most of what it learned begins with a thought."""
    best_step: int = 0
    base_loss: float | None = None
    best_loss: float | None = None


def read_adapter_info(lora: Path, folder: ModelDir) -> AdapterInfo:
    """An adapter's own description, checked against the base in `folder`.

    Raises AdapterError when files are missing or not what was written, or the adapter was made for another base.
    """
    shown = short_path(lora)
    weights = any((lora / name).is_file() for name in WEIGHT_NAMES)
    if not weights or not (lora / CONFIG).is_file():
        raise AdapterError(f"The adapter {shown} is incomplete: {CONFIG if weights else WEIGHT_NAMES[0]} is missing")
    if (lora / MANIFEST).is_file() and (wrong := damage(lora)):
        raise AdapterError(f"The adapter {shown} is damaged: {wrong}")
    about = _read(lora / INFO) if (lora / INFO).is_file() else {}
    base = about.get("base_model")
    if isinstance(base, dict) and base and base.get("fingerprint") != fingerprint(folder.weights):
        raise AdapterError(
            f"The adapter {shown} was made for {base.get('name')}, but this is {folder.root.name} "
            "(or its weights have changed)"
        )
    step = about.get("best_step")
    return AdapterInfo(
        style=str(about.get("style") or ""),
        quantised=str(about.get("quantised") or ""),
        thoughts=about.get("thoughts") is True,
        best_step=step if isinstance(step, int) else 0,
        base_loss=_number(about.get("base_loss")),
        best_loss=_number(about.get("best_loss")),
    )


def _read(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AdapterError(f"The adapter's file {short_path(file)} is damaged ({error})") from None
    if not isinstance(found, dict):
        raise AdapterError(f"The adapter's file {short_path(file)} is damaged (it is not a JSON object)")
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
