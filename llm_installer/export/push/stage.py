"""What is sent, in a folder of its own: files from an allow-list, and cleaned copies of those that name places."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from llm_installer.core.adapter_info import CONFIG, INFO, WEIGHT_NAMES
from llm_installer.core.errors import AdapterError
from llm_installer.core.files import unwritable, write_json
from llm_installer.core.hub_base import HubBase
from llm_installer.core.json_file import read_object
from llm_installer.core.model_card import data_names
from llm_installer.core.text import short_path
from llm_installer.core.weight_files import weight_files
from llm_installer.export.folder import companions, of_tokenizer
from llm_installer.export.push.request import File
from llm_installer.install.disk import copy_hashed

_OF_INFO = (
    "base_model", "method", "quantised", "created_at", "style", "thoughts", "chat_template_sha256", "base_loss",
    "best_loss", "best_step", "steps", "tokens", "stop_reason", "plan", "versions",
)  # fmt: skip
"""Fields of adapter_info.json that say nothing about the machine."""


def stage_adapter(lora: Path, base: HubBase | None, folder: Path, picture: Path | None) -> None:
    """Put an adapter into `folder`: weights, tokenizer, cleaned config and record, and the picture of the curves.

    Raises AdapterError where its weights are not in safetensors, DiskError where the disk refuses.
    """
    weights = lora / WEIGHT_NAMES[0]
    if not weights.is_file():
        raise AdapterError(
            f"The weights of the adapter {short_path(lora)} are in {WEIGHT_NAMES[1]}, which can run code where it is "
            "loaded; save it as safetensors, with save_pretrained of PEFT, and push that"
        )
    place(weights, folder / weights.name)
    write_json(folder / CONFIG, shared_config(read_object(lora / CONFIG), base))
    if (lora / INFO).is_file():
        write_json(folder / INFO, shared_info(read_object(lora / INFO)))
    for file in sorted(lora.iterdir()):
        if file.is_file() and of_tokenizer(file.name):
            place(file, folder / file.name)
    if picture:
        place(picture, folder / picture.name)


def stage_model(weights: Path, folder: Path, picture: Path | None) -> None:
    """Put a stand-alone model into `folder`. Its receipt stays here: questions in it are rows of the data."""
    names = [file.relative_to(weights).as_posix() for file in weight_files(weights)]
    index = [file.name for file in weights.glob("*.index.json")]
    for name in dict.fromkeys([*names, *index, "config.json", *companions(weights)]):
        place(weights / name, folder / name)
    if picture:
        place(picture, folder / picture.name)


def place(source: Path, target: Path) -> None:
    """The file under another name: as one with the first where the disk can, so that large ones cost nothing."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(os.path.realpath(source), target)
            return
        copy_hashed(source, target)
    except OSError as error:
        raise unwritable(target, error) from None


def shared_config(config: Mapping[str, object], base: HubBase | None) -> dict[str, object]:
    """adapter_config.json without local paths: the base is a repository on a hub, or not named at all."""
    shared = {name: value for name, value in config.items() if name not in ("base_model_name_or_path", "revision")}
    alpha = shared.get("lora_alpha")
    if isinstance(alpha, float) and alpha.is_integer():
        shared["lora_alpha"] = int(alpha)  # Ollama and vLLM read a whole number
    shared["inference_mode"] = True
    if base:
        shared |= {"base_model_name_or_path": base.id, "revision": base.revision or None}
    return dict(sorted(shared.items()))


def shared_info(info: Mapping[str, object]) -> dict[str, object]:
    """adapter_info.json without what is about this machine: data by name, no speed, no memory."""
    shared = {name: info[name] for name in _OF_INFO if name in info}
    plan = shared.get("plan")
    if isinstance(plan, Mapping):
        shared["plan"] = _shared_plan(plan)
    return shared | {"data": data_names(str(info.get("data") or ""))}


def _shared_plan(plan: Mapping[str, object]) -> dict[str, object]:
    """The plan with files by their names: a mix names them as the user did."""
    mix = plan.get("mix")
    pairs = mix if isinstance(mix, list) else []
    return dict(plan) | {"mix": [[data_names(str(name)), share] for name, share in pairs]}


def staged_files(folder: Path) -> tuple[File, ...]:
    """What is in a folder, by name."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple(File(path.relative_to(folder).as_posix(), path.stat().st_size) for path in found)
