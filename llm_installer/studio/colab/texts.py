"""The texts of a result from elsewhere: objects and lines of JSON. What is known is kept, and nothing may name code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from llm_installer.core.adapter_info import CONFIG
from llm_installer.core.errors import ModelError
from llm_installer.core.hub_base import hub_base
from llm_installer.core.json_file import parse_object
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import shortened
from llm_installer.studio.results import NotAccepted

_LAYER = re.compile(r"\w[\w.]{0,199}")
_SETTINGS = (
    "alpha_pattern", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights",
    "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r",
    "rank_pattern", "revision", "target_modules", "task_type", "trainable_token_indices",
    "use_dora", "use_rslora",
)  # fmt: skip
"""Settings of an adapter that may have a value; of the others some name code, files or tensors that nobody checks."""
_ABOUT = (
    "base_model", "method", "quantised", "created_at", "style", "thoughts", "chat_template_sha256", "base_loss",
    "best_loss", "best_step", "steps", "tokens", "stop_reason", "memory", "versions",
)  # fmt: skip
"""What is kept of an adapter's own description."""
_LINES = 2_000_000
_LINE = 1 << 20


def read_config(file: Path, model: ModelDir) -> dict[str, object]:
    """The configuration of the adapter, for this base. Raises NotAccepted for what names code, or another base."""
    found = read_object(file)
    for name, value in found.items():
        if name not in _SETTINGS and value not in (None, False, "", [], {}):
            raise NotAccepted(f"{CONFIG} of the result sets {shortened(name, 40)}, which this program does not accept")
    if found.get("peft_type") != "LORA":
        raise NotAccepted("The result is not a LoRA")
    if not isinstance(found.get("init_lora_weights"), (bool, str, type(None))):
        raise NotAccepted(f"init_lora_weights in {CONFIG} of the result is neither a word nor true or false")
    hub, named = hub_base(model.info), str(found.get("base_model_name_or_path") or "")
    if hub and named.lower() != hub.id.lower():
        raise NotAccepted(f"The result was made for {shortened(named, 100)}, and this job is for {hub.id}")
    rank_of(found)
    _check_names(found)
    kept = {name: value for name, value in found.items() if name in _SETTINGS}
    return kept | {"base_model_name_or_path": hub.id if hub else str(model.weights), "megatron_core": "megatron.core"}


def _check_names(config: Mapping[str, object]) -> None:
    """Names of layers, and no patterns: of those that PEFT would take some never come to an end."""
    targets = config.get("target_modules")
    names = [*targets] if isinstance(targets, list) else [None]
    for pattern in ("rank_pattern", "alpha_pattern", "trainable_token_indices"):
        found = config.get(pattern) or {}
        names += [*found] if isinstance(found, dict) else [None]
    if not all(isinstance(name, str) and _LAYER.fullmatch(name) for name in names):
        raise NotAccepted(f"{CONFIG} of the result must name layers by their names alone")


def read_about(file: Path, model: ModelDir) -> dict[str, object]:
    """What an adapter says of itself, as far as that is kept. Raises NotAccepted where it is of another base."""
    found = read_object(file)
    base = found.get("base_model")
    if not isinstance(base, dict) or base.get("fingerprint") != fingerprint(model.weights):
        raise NotAccepted(other_base(model))
    kept = {name: found.get(name) for name in _ABOUT}
    return kept | {"base_model": {"name": model.root.name, "fingerprint": base["fingerprint"]}}


def read_object(file: Path) -> dict[str, object]:
    """The object in a file. Raises NotAccepted where there is none, or a key in it names code."""
    try:
        found = parse_object(file.read_bytes().decode("utf-8"), file.name)
    except (ModelError, UnicodeDecodeError):
        raise NotAccepted(f"{file.name} of the result is not a JSON object") from None
    if "auto_map" in _keys(found):
        raise NotAccepted(f"{file.name} of the result names code to run (auto_map), and no code is accepted")
    return found


def _keys(value: object) -> set[str]:
    """All keys in it; JSON that could be read is not nested too deeply for this."""
    waiting, found = [value], set[str]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            found |= set(one)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


def check_lines(file: Path) -> None:
    """Each line is an object. Raises NotAccepted."""
    with file.open("rb") as content:
        for number, line in enumerate(iter(lambda: content.readline(_LINE + 1), b""), 1):
            try:
                fits = len(line) <= _LINE and number <= _LINES and isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                fits = False
            if not fits:
                raise NotAccepted(f"Line {number:,} of {file.name} of the result is not a JSON object")


def rank_of(config: Mapping[str, object]) -> int:
    """The rank of its configuration. Raises NotAccepted."""
    rank = config.get("r")
    if type(rank) is not int or not 1 <= rank <= 10_000:
        raise NotAccepted(f"r in {CONFIG} of the result must be a whole number from 1 to 10,000")
    return rank


def other_base(model: ModelDir) -> str:
    """The sentence for a result of other base weights."""
    return f"The result was made for another base than {model.root.name}, or for another version of its weights"
