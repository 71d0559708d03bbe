"""Whether an adapter is whole and made for this base, found out from its files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_installer.core.errors import AdapterError
from llm_installer.core.manifest import MANIFEST, damage
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir

WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin")


def read_adapter_info(lora: Path, folder: ModelDir) -> dict[str, Any]:
    """adapter_info.json, checked against the base in `folder`; empty for adapters made elsewhere.

    Raises AdapterError when files are missing or not what was written, or the adapter was made for another base.
    """
    config = lora / "adapter_config.json"
    if not config.is_file() or not any((lora / name).is_file() for name in WEIGHT_NAMES):
        raise AdapterError(
            f"{lora} is no complete adapter ({config.name} or {WEIGHT_NAMES[0]} is missing); "
            "give another one with --lora, or answer without with --no-lora"
        )
    if (lora / MANIFEST).is_file() and (wrong := damage(lora)):
        raise AdapterError(
            f"The adapter {lora} is damaged: {wrong}; give another one with --lora, or answer without: --no-lora"
        )
    file = lora / "adapter_info.json"
    try:
        details: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise AdapterError(f"{file} is damaged ({error}); give another adapter with --lora") from None
    base = details.get("base_model", {})
    if base and base.get("fingerprint") != fingerprint(folder.weights):
        raise AdapterError(
            f"The adapter {lora} was made for {base.get('name')}, but this is {folder.root.name} "
            "(or its weights have changed); use it with its own base, or answer without it: --no-lora"
        )
    return details
