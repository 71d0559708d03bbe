"""What other engines would drop or refuse of an adapter, as their own readers of adapters do: a table, a row each.

Read in vLLM (lora/peft_helper.py, lora/lora_model.py and config/lora.py of 2026) and in Ollama 0.32 (convert.go).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.adapter_info import CONFIG, WEIGHT_NAMES
from llm_installer.core.config import read_config
from llm_installer.core.json_file import read_object
from llm_installer.core.paths import ModelDir
from llm_installer.core.safetensors import read_header
from llm_installer.core.text import shortened

VLLM, OLLAMA = "vllm", "ollama"
ENGINES = {VLLM: "vLLM", OLLAMA: "Ollama"}
"""What is checked for, and how it is written."""
REFUSES, DROPS = "refuses", "drops"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank of vLLM accepts; the next larger one is meant by any other rank."""
USUAL_RANK = 16
"""The rank that vLLM accepts without being told."""
FOLDERS = ("llama", "gemma2")
"""Families of whose adapters Ollama reads the folder."""


@dataclass(frozen=True)
class Adapter:
    """What an adapter's files say, as far as engines differ on it."""

    config: Mapping[str, object]
    ranks: tuple[int, ...]
    """Of all of its layers, from the shapes of their tensors."""
    family: str
    """The model_type of its base."""

    def given(self, name: str) -> object:
        """A field of its config; None where it is absent or empty."""
        return self.config.get(name) or None

    @property
    def rank(self) -> int:
        """The largest of its ranks."""
        return max(self.ranks, default=0)


@dataclass(frozen=True)
class Row:
    """A thing that an adapter may have and an engine cannot take."""

    engine: str
    name: str
    effect: str
    """REFUSES or DROPS: an error, or answers other than those of the tuned model."""
    has: Callable[[Adapter], str]
    """What the adapter has of it, for a sentence; empty where it has nothing."""
    why: str


@dataclass(frozen=True)
class Finding:
    """A row that holds for an adapter."""

    engine: str
    name: str
    effect: str
    said: str
    """The whole sentence."""


def _config(name: str) -> Callable[[Adapter], str]:
    """What the config gives under a name."""
    return lambda adapter: _said(name, adapter.given(name))


def _said(name: str, value: object) -> str:
    """A field as a sentence names it: with its value where that is short, and not at all where it is not given."""
    if value is None or isinstance(value, (bool, Mapping)):
        return name if value else ""
    shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return shortened(f"{name}={shown}", 80)


def engines_table() -> str:
    """The table as Markdown, for the guide."""
    lines = [f"| {ENGINES[row.engine]} | {row.name} | {row.effect} it: {row.why} |" for row in ROWS]
    return "\n".join(["| engine | what an adapter has | |", "|---|---|---|", *lines])


def _dora(adapter: Adapter) -> str:
    return "DoRA" if adapter.given("use_dora") else ""


def _bias(adapter: Adapter) -> str:
    bias = adapter.given("bias")
    return f"bias={bias}" if bias not in (None, "none") else _config("lora_bias")(adapter)


def _moved_base(adapter: Adapter) -> str:
    init = str(adapter.config.get("init_lora_weights")).lower()
    return f"init_lora_weights={init}" if init.startswith(("pissa", "olora", "corda", "loftq", "lora_ga")) else ""


def _alpha(adapter: Adapter) -> str:
    alpha = adapter.config.get("lora_alpha")
    return f"lora_alpha={alpha}" if isinstance(alpha, float) and not alpha.is_integer() else ""


def _too_large(adapter: Adapter) -> str:
    return f"rank {adapter.rank:,}" if adapter.rank > RANKS[-1] else ""


def _other_family(adapter: Adapter) -> str:
    return f"a base of the family {adapter.family}" if adapter.family not in FOLDERS else ""


def _rows(engine: str, effect: str, *rows: tuple[str, Callable[[Adapter], str], str]) -> Iterator[Row]:
    for name, has, why in rows:
        yield Row(engine, name, effect, has, why)


_IN_SILENCE = "it is ignored in silence"
_NO_PLACE = "a LoRA in a GGUF file has no place for it"
ROWS = (
    *_rows(
        VLLM,
        REFUSES,
        ("rank", _too_large, f"the largest it accepts is {RANKS[-1]}"),
        ("DoRA", _dora, "it is not supported"),
        ("bias", _bias, "biases in adapters are not supported"),
        ("modules_to_save", _config("modules_to_save"), "modules that were trained as a whole are not supported"),
        ("lora_alpha", _alpha, "a whole number is expected"),
    ),
    *_rows(
        VLLM,
        DROPS,
        ("rank_pattern", _config("rank_pattern"), f"{_IN_SILENCE}, and those layers get a wrong scale"),
        ("alpha_pattern", _config("alpha_pattern"), f"{_IN_SILENCE}, and those layers get a wrong scale"),
        ("trainable tokens", _config("trainable_token_indices"), f"{_IN_SILENCE}, so that answers may not end"),
        ("target_parameters", _config("target_parameters"), f"{_IN_SILENCE}: experts stay those of the base"),
        ("layers_to_transform", _config("layers_to_transform"), f"{_IN_SILENCE}; compare a few answers"),
        ("initialisation", _moved_base, "it belongs to a base that PEFT changes when it loads the adapter"),
    ),
    *_rows(
        OLLAMA,
        REFUSES,
        ("DoRA", _dora, _NO_PLACE),
        ("bias", _bias, _NO_PLACE),
        ("modules_to_save", _config("modules_to_save"), _NO_PLACE),
        ("trainable tokens", _config("trainable_token_indices"), _NO_PLACE),
        ("target_parameters", _config("target_parameters"), _NO_PLACE),
        ("lora_alpha", _alpha, "a whole number is expected in the config of an adapter's folder"),
        ("family", _other_family, f"folders of adapters are read for {' and '.join(FOLDERS)} only"),
    ),
    *_rows(
        OLLAMA,
        DROPS,
        ("rank_pattern", _config("rank_pattern"), "it is not read from the folder of an adapter"),
        ("alpha_pattern", _config("alpha_pattern"), "it is not read from the folder of an adapter"),
        ("rsLoRA", _config("use_rslora"), "it is not read from the folder of an adapter, and the scale is wrong"),
        ("layers_to_transform", _config("layers_to_transform"), "it is not read; compare a few answers"),
        ("initialisation", _moved_base, "it belongs to a base that PEFT changes when it loads the adapter"),
    ),
)  # fmt: skip
"""Every engine and feature."""


def read_adapter(lora: Path, folder: ModelDir) -> Adapter:
    """The facts of the adapter in `lora` on this base. Raises AdapterError or ModelError for files that are damaged."""
    config = read_object(lora / CONFIG)
    weights = lora / WEIGHT_NAMES[0]
    header = read_header(weights) if weights.is_file() and not config.get("target_parameters") else {}
    ranks = {tensor.shape[0] for name, tensor in header.items() if re.search(r"lora_(embedding_)?A", name)}
    rank = config.get("r")
    found = ranks or ({rank} if isinstance(rank, int) else set())
    return Adapter(config, tuple(sorted(found)), str(read_config(folder.weights).get("model_type") or ""))


def findings(engine: str, adapter: Adapter) -> tuple[Finding, ...]:
    """What this engine would refuse, then what it would drop."""
    return tuple(
        Finding(engine, row.name, row.effect, f"{ENGINES[engine]} {row.effect} {has}: {row.why}")
        for row in ROWS
        if row.engine == engine and (has := row.has(adapter))
    )


def max_rank(rank: int) -> int:
    """The value of --max-lora-rank for a rank: the next one that vLLM accepts; the largest where there is none."""
    return next((accepted for accepted in RANKS if accepted >= rank), RANKS[-1])


@dataclass(frozen=True)
class Module:
    """An adapter as vLLM is told of it."""

    name: str
    path: str
    rank: int


def vllm_words(base: str, modules: Sequence[Module], template: str = "", more: Sequence[str] = ()) -> list[str]:
    """The words of the command that serves a base with these adapters; `more` are options of the server itself."""
    words = ["vllm", "serve", base, *more]
    if modules:
        rank, count = max(module.rank for module in modules), str(len(modules))
        words += ["--enable-lora"]
        words += ["--max-loras", count, "--max-cpu-loras", count] if len(modules) > 1 else []
        words += ["--max-lora-rank", str(max_rank(rank))] if rank > USUAL_RANK else []
        words += ["--lora-modules", *(f"{module.name}={module.path}" for module in modules)]
    return words + (["--chat-template", template] if template else [])


def served_name(name: str) -> str:
    """The name under which vLLM serves an adapter: it may hold no = and nothing that a shell takes as its own."""
    return re.sub(r"[^\w.:-]+", "-", name).strip("-") or "tuned"
