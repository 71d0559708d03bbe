"""vLLM in the place of the own engine: its command line for a base and its runs, and what is looked at before."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import InstallerError, ModelError, UsageError
from llm_installer.core.hints import pip, quoted
from llm_installer.core.paths import ModelDir
from llm_installer.export.engines import VLLM, Module, findings, read_adapter, vllm_words
from llm_installer.runs.listing import list_runs
from llm_installer.server.request import ServeRequest

KEY = "VLLM_API_KEY"
"""Where vLLM finds its key: in the environment, which other users of the machine cannot read as they can a command."""
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class Launch:
    """vLLM, ready to be started."""

    words: list[str]
    notes: list[str]
    """A sentence about each run that is left out."""
    key: str = ""
    """What clients must send; empty for nothing."""

    @property
    def shown(self) -> list[str]:
        """The command as a shell takes it, without the key."""
        return [*([f"{KEY}=***"] if self.key else []), *map(quoted, self.words)]


def prepared(folder: ModelDir, request: ServeRequest) -> Launch:
    """vLLM's command for `folder`. Raises UsageError where its runs cannot be in one vLLM."""
    modules, notes, template = looked_at(folder)
    return Launch(command(folder, request, modules, template), notes, request.api_key)


def become(launch: Launch) -> None:
    """Let vLLM take the place of this process. Raises InstallerError where it is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise InstallerError(f"vLLM is not installed where this program runs; install it with: {pip('vllm')}")
    os.execvpe(launch.words[0], launch.words, os.environ | ({KEY: launch.key} if launch.key else {}))


def looked_at(folder: ModelDir) -> tuple[list[Module], list[str], Path | None]:
    """The adapters that vLLM serves as they were trained; a sentence about each other one; and their chat template,
    where they have one of their own. Raises UsageError where their templates differ: a vLLM has one for all."""
    modules, notes, templates = list[Module](), list[str](), dict[str, Path]()
    for row in list_runs(folder):
        if not row.usable:
            continue
        rank, why = _rank_and_reason(row.adapter, folder)
        if why:
            notes.append(f"Run {row.run.id} is left out: {why}; serve it with --engine own, or merge it first")
            continue
        modules.append(Module(f"{folder.root.name}:{row.run.id}", str(row.adapter), rank))
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
    more = ["--served-model-name", folder.root.name, "--host", request.host, "--port", str(request.port)]
    more += ["--generation-config", "vllm", "--max-num-seqs", str(request.rows)]
    return vllm_words(str(folder.weights), modules, str(template) if template else "", more)


def _rank_and_reason(lora: Path, folder: ModelDir) -> tuple[int, str]:
    """The rank of an adapter, and why vLLM would not serve it as it was trained; empty where it does."""
    try:
        adapter = read_adapter(lora, folder)
    except ModelError as error:
        return 0, str(error)
    if adapter.config.get("peft_type", "LORA") != "LORA":
        return 0, "it is no LoRA"
    return adapter.rank, next((found.said for found in findings(VLLM, adapter)), "")
