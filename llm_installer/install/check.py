"""Will this model run and train here? Answered from its config and the headers of its weights, before any download."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.config import read_config
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import Hardware, probe_hardware
from llm_installer.core.hints import program
from llm_installer.core.home import llm_home, models_dir
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.core.text import counted, short_path, size
from llm_installer.install.advice import advising
from llm_installer.install.disk import nearest_existing
from llm_installer.install.doctor import Check
from llm_installer.install.hub_preview import preview
from llm_installer.install.minutes import usual_time
from llm_installer.install.resolve import resolve
from llm_installer.install.trainable import check_trainable
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.decide import make_plan
from llm_installer.planning.fitting import QUANTISED, memory_rows
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.registry import find_handler

TYPICAL_DATA = DataFacts(
    rows=1000, validation_rows=100, task="instruct", mean_length=300, longest=1000, answer_tokens=2e5
)
"""Stands for data that nobody has named yet; what memory needs depends on the maximum length."""


@dataclass(frozen=True)
class ModelCheck:
    """What was found, and what each way to hold the model would need: (setting, predicted peak, verdict)."""

    checks: list[Check]
    memory: list[tuple[str, str, str]]


def check_model(model: str, revision: str | None = None) -> ModelCheck:
    """Check a hub id, a folder, `tiny`, or the name or directory of an installed model.

    Raises ModelError for what cannot be trained at all, and what `install` raises where a hub cannot be asked.
    """
    weights = _installed(model)
    if weights:
        return _judge(_loadable(weights, weights.parent.name), 0, probe_hardware())
    source = resolve(model, revision=revision)
    if source.kind != "hub":
        with advising(source):
            check_trainable(read_config(source.folder), source.id)
            info = _loadable(source.folder, source.id)
        return _judge(info, info.weight_bytes, probe_hardware())
    with tempfile.TemporaryDirectory() as folder, advising(source):
        to_download = preview(source, Path(folder))
        return _judge(_loadable(Path(folder), source.id), to_download, probe_hardware())


def _loadable(folder: Path, name: str) -> ModelInfo:
    from llm_installer.inference.loadable import check_loadable

    info = read_model_info(folder, name)
    check_loadable(info)
    return info


def _installed(model: str) -> Path | None:
    """The weights of a model that is installed under this name, or in this directory."""
    places = (Path(model).expanduser(), models_dir() / model.replace("/", "_"))
    return next((p / "model" for p in places if (p / "model" / "config.json").is_file()), None)


def _judge(info: ModelInfo, to_store: int, hardware: Hardware) -> ModelCheck:
    handler = find_handler(info)
    longest = min(TYPICAL_DATA.longest, info.max_positions or TYPICAL_DATA.longest)
    plan = make_plan(Options(), info, handler, hardware, TYPICAL_DATA, (longest, ""))
    table = memory_rows(plan.setup(info, hardware), plan.micro_batch_tokens)
    checks = [
        _family(info, handler),
        _adapted(info, plan),
        Check("machine", True, hardware.summary),
        _disk(to_store),
        _training(info, plan, hardware.free_bytes, longest, table),
    ]
    if time := usual_time(info, plan, TYPICAL_DATA, hardware):
        usual = f"{TYPICAL_DATA.rows:,} examples of {TYPICAL_DATA.mean_length:.0f} tokens in mode {plan.mode}"
        checks.append(Check("time", True, f"about {time} for {usual}"))
    if not info.chat_template:
        checks.append(Check("chat", None, "no chat template; questions and answers are trained on as plain text"))
    return ModelCheck(checks, table)


def _family(info: ModelInfo, handler: Handler) -> Check:
    known = f"{info.name}, {info.size} parameters"
    if info.stored.words:
        known += f", published in {info.stored.words}{'' if info.stored.kept else ' and dequantised when it is loaded'}"
    if handler.model_types:
        return Check("model", True, f"{known}, {handler.name} family")
    return Check("model", None, f"{known}; no handler names the type {info.model_type}, so PEFT picks the layers",
                 f"see the known families with: {program()} handlers")  # fmt: skip


def _adapted(info: ModelInfo, plan: Plan) -> Check:
    from llm_installer.inference.loadable import adapted_layers

    return Check("adapted", True, ": ".join(adapted_layers(info, plan.target_modules)))


def _disk(to_store: int) -> Check:
    if not to_store:
        return Check("disk", True, "already installed")
    free = shutil.disk_usage(nearest_existing(llm_home())).free
    found = f"{size(to_store)} to install, {size(free)} free in {short_path(llm_home())}"
    return Check("disk", free > to_store, found, "free some space, or set LLM_HOME to a folder on a larger disk")


def _training(info: ModelInfo, plan: Plan, free: int, longest: int, table: list[tuple[str, str, str]]) -> Check:
    """Whether a run with the usual settings fits, and else what would."""
    peak = f"{size(plan.predicted_peak_bytes)} of {size(free)} free"
    if plan.predicted_peak_bytes <= free:
        how = f"{plan.precision}, rank {plan.lora_r}, rows of {counted(longest, 'token')}"
        layers = f", {plan.checkpointed_layers} of {counted(info.layers, 'layer')} checkpointed"
        return Check("training", True, f"{how}: about {peak}{layers if plan.checkpointed_layers else ''}")
    what = f"{plan.precision} would need at least {peak}"
    if any(name.startswith(QUANTISED["nf4"]) and verdict != "does not fit" for name, _, verdict in table):
        return Check("training", None, what, "with --method qlora it fits")
    return Check("training", False, what, "choose a smaller model or a larger machine")
