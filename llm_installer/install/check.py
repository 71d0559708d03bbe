"""Will this model run and train here? Answered from its config and the headers of its weights; none are downloaded."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware, probe_hardware
from llm_installer.core.model_info import ModelInfo, read_model_info
from llm_installer.core.paths import llm_home, models_dir
from llm_installer.install.choose import check_trainable
from llm_installer.install.doctor import Check, existing
from llm_installer.install.files import human
from llm_installer.install.resolve import Source, resolve
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.fitting import QUANTISED
from llm_installer.planning.memory_table import memory_table
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan, make_plan
from llm_installer.planning.registry import find_handler

USUAL = DataFacts(rows=1000, validation_rows=100, task="instruct", mean_length=300, longest=1000)
"""Data of no particular size, since none is given; what memory needs depends on the longest row."""


@dataclass(frozen=True)
class Outlook:
    """What was found, and what each way to hold the model would need: (setting, predicted peak, verdict)."""

    checks: list[Check]
    memory: list[tuple[str, str, str]]


def outlook(model: str, revision: str | None = None) -> Outlook:
    """Look at a hub id, a folder, `tiny`, or the name or directory of an installed model.

    Raises ModelError for what cannot be trained at all, and what `install` raises where a hub cannot be asked.
    """
    weights = _installed(model)
    if weights:
        return _judge(read_model_info(weights, weights.parent.name), 0, probe_hardware())
    source = resolve(model, revision=revision)
    if source.kind != "hub":
        info = read_model_info(source.folder, source.id)
        check_trainable(json.loads((source.folder / "config.json").read_text(encoding="utf-8")), source.id)
        return _judge(info, info.weight_bytes, probe_hardware())
    with tempfile.TemporaryDirectory() as folder:
        size = outline(source, Path(folder))
        return _judge(read_model_info(Path(folder), source.id), size, probe_hardware())


def _installed(model: str) -> Path | None:
    """The weights of a model that is installed under this name, or in this directory."""
    places = (Path(model).expanduser(), models_dir() / model.replace("/", "_"))
    return next((p / "model" for p in places if (p / "model" / "config.json").is_file()), None)


def outline(source: Source, folder: Path) -> int:
    """Lay out a hub model in `folder` as a model with real texts and headers, and holes for weights.

    Returns the bytes that an install would fetch. Sparse files of the right sizes let everything be read from this
    folder as from the real one.
    """
    from llm_installer.install.choose import choose
    from llm_installer.install.hub import list_files, no_telemetry
    from llm_installer.install.hub_errors import explained
    from llm_installer.install.transfer import Meter, fetch

    no_telemetry()
    parts = folder / ".parts"
    parts.mkdir()
    with explained(source):
        commit, files = list_files(source)
        meter = Meter(lambda line: None, 0)

        def read(name: str) -> str:
            fetch(files[name], folder, parts, meter)
            return (folder / name).read_text(encoding="utf-8")

        chosen = choose(files, read, source.id)
        for name in {"tokenizer_config.json", "chat_template.jinja"}.intersection(chosen.others):
            read(name)
        for name in chosen.weights:
            header = _remote_header(source.id, name, commit) if name.endswith(".safetensors") else {}
            _write_hole(folder / name, header, files[name].size or 0)
    return sum(files[name].size or 0 for name in (*chosen.weights, *chosen.others))


def _remote_header(model: str, name: str, commit: str) -> dict[str, object]:
    """The header of a safetensors file on the hub: its first kilobytes are fetched."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import SafetensorsParsingError

    api, seconds = HfApi(library_name="llm-installer"), constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        found = api.parse_safetensors_file_metadata(model, name, revision=commit, timeout=seconds)
    except SafetensorsParsingError as error:
        raise ModelError(f"{name} of {model} is damaged on the hub (its header cannot be read)") from error
    return {
        tensor: {"dtype": t.dtype, "shape": t.shape, "data_offsets": t.data_offsets}
        for tensor, t in found.tensors.items()
    }


def _write_hole(file: Path, header: dict[str, object], size: int) -> None:
    body = json.dumps(header).encode() if header else b""
    end = max((t["data_offsets"][1] for t in header.values() if isinstance(t, dict)), default=0)
    with file.open("wb") as data:
        if body:
            data.write(struct.pack("<Q", len(body)) + body)
        data.truncate(max(size, data.tell() + end))


def _judge(info: ModelInfo, to_fetch: int, hardware: Hardware) -> Outlook:
    handler = find_handler(info)
    longest = min(USUAL.longest, info.max_positions or USUAL.longest)
    plan = make_plan(Options(), info, handler, hardware, USUAL, (longest, ""))
    table = memory_table(info, hardware, plan)
    checks = [
        _family(info, handler),
        Check("machine", True, hardware.summary),
        _room(to_fetch),
        _training(info, plan, hardware.free_bytes, longest, table),
    ]
    if not info.chat_template:
        checks.append(Check("chat", None, "no chat template: questions and answers are learned as plain text"))
    return Outlook(checks, table)


def _family(info: ModelInfo, handler: Handler) -> Check:
    known = f"{info.name}, {info.size} parameters"
    if handler.model_types:
        return Check("model", True, f"{known}, {handler.name} family")
    return Check("model", None, f"{known}; no handler is for the type {info.model_type}, so its layers are guessed",
                 "see docs/handlers.md for writing one")  # fmt: skip


def _room(to_fetch: int) -> Check:
    if not to_fetch:
        return Check("disk", True, "installed already")
    free = shutil.disk_usage(existing(llm_home())).free
    found = f"{human(to_fetch)} to install, {human(free)} free for {llm_home()}"
    return Check("disk", free > to_fetch, found, "make room, or set LLM_HOME to a folder on a larger disk")


def _training(info: ModelInfo, plan: Plan, free: int, longest: int, table: list[tuple[str, str, str]]) -> Check:
    """Whether a run with the usual settings fits, and else what would."""
    peak = f"{plan.predicted_peak_bytes / GIB:.1f} of {free / GIB:.1f} GB free"
    if plan.predicted_peak_bytes <= free:
        twice = f", {plan.checkpointed_layers} of {info.layers} layers computed twice" * bool(plan.checkpointed_layers)
        how = f"{plan.precision}, rank {plan.lora_r}, rows of {longest} tokens"
        return Check("training", True, f"{how}: about {peak}{twice}")
    what = f"{plan.precision} would need at least {peak}"
    if any(name.startswith(QUANTISED["nf4"]) and verdict != "does not fit" for name, _, verdict in table):
        return Check("training", None, what, "with --method qlora it fits")
    return Check("training", False, what, "choose a smaller model or a larger machine")
