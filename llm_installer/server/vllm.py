"""vLLM in the place of the own engine: its command line for a base and its runs, and what is looked at before."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import AdapterError, InstallerError, UsageError
from llm_installer.core.hints import pip, quoted
from llm_installer.core.json_file import read_object
from llm_installer.core.paths import ModelDir
from llm_installer.runs.listing import list_runs
from llm_installer.server.request import ServeRequest

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank takes."""
KEY = "--api-key"
TEMPLATE = "chat_template.jinja"
DROPPED = (
    ("rank_pattern", "gives some layers ranks of their own"),
    ("alpha_pattern", "gives some layers alphas of their own"),
    ("layers_to_transform", "adapts some of the layers only"),
    ("trainable_token_indices", "has trained tokens"),
    ("target_parameters", "adapts parameters that are no layers"),
)
"""Settings of an adapter that vLLM leaves out without a word, so that another model would answer."""
REFUSED = (("use_dora", "is a DoRA"), ("modules_to_save", "has complete modules beside its LoRA"))
"""Settings that vLLM refuses when it has loaded the base."""


@dataclass(frozen=True)
class Module:
    """An adapter as vLLM is told of it."""

    name: str
    path: Path
    rank: int


@dataclass(frozen=True)
class Launch:
    """vLLM, ready to be started."""

    words: list[str]
    notes: list[str]
    """A sentence about each run that is left out."""

    @property
    def shown(self) -> list[str]:
        """The command as a shell takes it, without the key."""
        pairs = zip(["", *self.words], self.words, strict=False)
        return ["***" if before == KEY else quoted(word) for before, word in pairs]


def prepared(folder: ModelDir, request: ServeRequest) -> Launch:
    """vLLM's command for `folder`. Raises UsageError where its runs cannot be in one vLLM."""
    modules, notes, template = looked_at(folder)
    return Launch(command(folder, request, modules, template), notes)


def become(launch: Launch) -> None:
    """Let vLLM take the place of this process. Raises InstallerError where it is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise InstallerError(f"vLLM is not installed where this program runs; install it with: {pip('vllm')}")
    os.execvp(launch.words[0], launch.words)


def looked_at(folder: ModelDir) -> tuple[list[Module], list[str], Path | None]:
    """The adapters that vLLM serves as they were trained; a sentence about each other one; and their chat template,
    where they have one of their own. Raises UsageError where their templates differ: a vLLM has one for all."""
    modules, notes, templates = list[Module](), list[str](), dict[str, Path]()
    for row in list_runs(folder):
        if not row.usable:
            continue
        try:
            rank, why = _rank_and_reason(row.adapter)
        except AdapterError as error:
            rank, why = 0, str(error)
        if why:
            notes.append(f"Run {row.run.id} {why}; leave it to --engine own, or merge it first")
            continue
        modules.append(Module(f"{folder.root.name}:{row.run.id}", row.adapter, rank))
        if (row.adapter / TEMPLATE).is_file():
            templates.setdefault((row.adapter / TEMPLATE).read_text("utf-8"), row.adapter / TEMPLATE)
    if len(templates) > 1:
        raise UsageError(
            f"The runs of {folder.root.name} have {len(templates)} chat templates, and vLLM has one for all; "
            "leave --engine out to serve them together"
        )
    return modules, notes, next(iter(templates.values()), None)


def command(folder: ModelDir, request: ServeRequest, modules: Sequence[Module], template: Path | None) -> list[str]:
    """vLLM's command line."""
    words = ["vllm", "serve", str(folder.weights), "--served-model-name", folder.root.name]
    words += ["--host", request.host, "--port", str(request.port)]
    words += [KEY, request.api_key] if request.api_key else []
    words += ["--chat-template", str(template)] if template else []
    words += ["--generation-config", "vllm", "--max-num-seqs", str(request.rows)]
    if modules:
        count = str(len(modules))
        words += ["--enable-lora", "--max-loras", count, "--max-cpu-loras", count]
        words += ["--max-lora-rank", str(rounded(max(module.rank for module in modules)))]
        words += ["--lora-modules", *(f"{module.name}={module.path}" for module in modules)]
    return words


def rounded(rank: int) -> int:
    """The least rank of RANKS that holds `rank`. Raises UsageError beyond the last."""
    found = next((each for each in RANKS if each >= rank), 0)
    if not found:
        raise UsageError(f"vLLM takes ranks up to {RANKS[-1]}, and a run has {rank}; leave --engine out")
    return found


def _rank_and_reason(adapter: Path) -> tuple[int, str]:
    """The rank of an adapter, and why vLLM would not serve it as it was trained; empty where it does."""
    config = read_object(adapter / "adapter_config.json", AdapterError)
    rank = config.get("r")
    if config.get("peft_type", "LORA") != "LORA" or not isinstance(rank, int):
        return 0, "is no LoRA"
    for key, words in (*REFUSED, *DROPPED):
        if config.get(key):
            return rank, words + (", which vLLM leaves out without a word" if (key, words) in DROPPED else "")
    if config.get("bias") not in (None, "none"):
        return rank, "has trained biases"
    return rank, ""
