"""What an adapter from elsewhere must be before it becomes a run of a model: each refusal is one sentence.

`take` does all of it for a result file that somebody drops on a page; `adopt` the part after the upload of a worker.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from llm_installer.core.adapter_info import CONFIG, INFO, read_adapter_info
from llm_installer.core.errors import AdapterError, ModelError
from llm_installer.core.files import unwritable, write_folder, write_json
from llm_installer.core.hub_base import hub_base
from llm_installer.core.json_file import parse_object
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import ADAPTER_FILE
from llm_installer.core.run.record import FINISHED, RunRecord
from llm_installer.core.text import shortened
from llm_installer.studio.colab.bundle import FILES, WEIGHTS
from llm_installer.studio.colab.unpack import unpack
from llm_installer.studio.colab.weights import check_weights
from llm_installer.studio.results import NotAccepted

ELSEWHERE = "elsewhere"
"""In the result of a run: the job by which it was trained on another machine, from where no checkpoint came."""
_MODE = re.compile(r"[a-z][a-z-]{0,30}")
_LAYER = re.compile(r"\w[\w.]{0,199}")
_SETTINGS = frozenset(
    "alpha_pattern base_model_name_or_path bias fan_in_fan_out inference_mode init_lora_weights lora_alpha lora_dropout "
    "megatron_core peft_type peft_version qalora_group_size r rank_pattern revision target_modules task_type use_dora "
    "use_rslora".split()
)
"""Settings of an adapter that may have a value; of the others some name code, files or tensors that nobody checks."""
_ABOUT = (
    "base_model", "method", "quantised", "created_at", "style", "thoughts", "chat_template_sha256", "base_loss",
    "best_loss", "best_step", "steps", "tokens", "stop_reason", "memory", "versions",
)  # fmt: skip
"""What is kept of an adapter's own description."""
_LINES = 2_000_000
_LINE = 1 << 20


@dataclass(frozen=True)
class Expected:
    """What a result must be of."""

    model: ModelDir
    job: str
    data: str = ""
    """The data, in the user's words."""


def take(bundle: Path, expected: Expected) -> Run:
    """Make a result file a run of the model. Raises NotAccepted, DiskError; then nothing is left of it."""
    runs = expected.model.runs
    try:
        runs.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".accepting-", dir=runs))
    except OSError as error:
        raise unwritable(runs, error) from None
    try:
        manifest, files = unpack(bundle, place)
        if manifest.job != expected.job:
            raise NotAccepted("This is the result of another job; drop it on the page of that one")
        if manifest.base != fingerprint(expected.model.weights):
            raise NotAccepted(_other_base(expected.model))
        return adopt(files, expected)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def adopt(files: Mapping[str, Path], expected: Expected) -> Run:
    """Make files that came from elsewhere a run of the model; `files` by their place in a run, as FILES has them.

    Others are left out. Raises NotAccepted, DiskError; then there is no run.
    """
    model = expected.model
    if missing := next((name for name, row in FILES.items() if row.required and name not in files), None):
        raise NotAccepted(f"{missing} is missing from the result")
    for name in FILES:
        if name in files and files[name].stat().st_size > FILES[name].most:
            raise NotAccepted(f"{name} of the result is too large")
    config, about = _config(files[f"adapter/{CONFIG}"], model), _about(files[f"adapter/{INFO}"], model)
    ranks = config.get("rank_pattern")
    check_weights(files[WEIGHTS], model.weights, ranks if isinstance(ranks, dict) else {}, _rank(config))
    record, plan = _object(files["run.json"]), _object(files["plan.json"])
    for name in ("metrics.jsonl", "samples.jsonl"):
        if name in files:
            _check_lines(files[name])
    return _as_run(files, expected, _Texts(config, about, plan, record))


@dataclass(frozen=True)
class _Texts:
    """The objects in the files of a result, checked."""

    config: dict[str, object]
    about: dict[str, object]
    plan: dict[str, object]
    record: dict[str, object]


def _as_run(files: Mapping[str, Path], expected: Expected, found: _Texts) -> Run:
    model, mode = expected.model, found.plan.get("mode")
    run = model.new_run(mode if isinstance(mode, str) and _MODE.fullmatch(mode) else "medium", datetime.now())

    def fill(fresh: Path) -> None:
        shutil.copyfile(files[WEIGHTS], fresh / ADAPTER_FILE)
        write_json(fresh / CONFIG, found.config)
        write_json(fresh / INFO, found.about)

    try:
        write_folder(run.adapter, fill)
        read_adapter_info(run.adapter, model)
        for name in ("metrics.jsonl", "samples.jsonl", "duration.json", "report.md"):
            if name in files:
                shutil.copyfile(files[name], run.root / name)
        write_json(run.plan, found.plan)
        _record(found.record, expected, run).write(run)
    except AdapterError as error:
        shutil.rmtree(run.root, ignore_errors=True)
        raise NotAccepted(str(error).replace(str(run.adapter), "of the result")) from None
    except OSError as error:
        shutil.rmtree(run.root, ignore_errors=True)
        raise unwritable(run.root, error) from None
    return run


def _record(found: Mapping[str, object], expected: Expected, run: Run) -> RunRecord:
    """The record of a run that was trained elsewhere: its numbers, and nothing of the other machine."""
    result, options = found.get("result"), found.get("options")
    given = result if isinstance(result, dict) else {}
    numbers = {name: _number(given.get(name)) for name in ("base_loss", "best_loss")}
    counts = {name: _count(given.get(name)) for name in ("steps", "best_step")}
    why = given.get("stop_reason")
    return RunRecord(
        status=FINISHED,
        started=datetime.now().isoformat(timespec="seconds"),
        options={k: v for k, v in options.items() if _plain(k) and _plain(v)} if isinstance(options, dict) else {},
        base=str(expected.model.root),
        rows="",
        files={},
        model=fingerprint(expected.model.weights),
        data=expected.data or shortened(str(found.get("data") or ""), 200),
        result={
            "run": str(run.root), "adapter": str(run.adapter), **counts, **numbers,
            "stop_reason": shortened(why, 200) if isinstance(why, str) else "", "improved": given.get("improved") is True,
            ELSEWHERE: expected.job,
        },
    )  # fmt: skip


def _config(file: Path, model: ModelDir) -> dict[str, object]:
    """The configuration of the adapter, for this base. Raises NotAccepted for what names code, or another base."""
    found = _object(file)
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
    _rank(found)
    _check_names(found)
    kept = {name: value for name, value in found.items() if name in _SETTINGS}
    return kept | {"base_model_name_or_path": hub.id if hub else str(model.weights), "megatron_core": "megatron.core"}


def _check_names(config: Mapping[str, object]) -> None:
    """Names of layers, and no patterns: of those that PEFT would take some never come to an end."""
    targets = config.get("target_modules")
    names = [*targets] if isinstance(targets, list) else [None]
    for pattern in ("rank_pattern", "alpha_pattern"):
        found = config.get(pattern) or {}
        names += [*found] if isinstance(found, dict) else [None]
    if not all(isinstance(name, str) and _LAYER.fullmatch(name) for name in names):
        raise NotAccepted(f"{CONFIG} of the result must name layers by their names alone")


def _about(file: Path, model: ModelDir) -> dict[str, object]:
    found = _object(file)
    base = found.get("base_model")
    if not isinstance(base, dict) or base.get("fingerprint") != fingerprint(model.weights):
        raise NotAccepted(_other_base(model))
    kept = {name: found.get(name) for name in _ABOUT}
    return kept | {"base_model": {"name": model.root.name, "fingerprint": base["fingerprint"]}}


def _object(file: Path) -> dict[str, object]:
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


def _check_lines(file: Path) -> None:
    """Each line is an object. Raises NotAccepted."""
    with file.open("rb") as content:
        for number, line in enumerate(iter(lambda: content.readline(_LINE + 1), b""), 1):
            try:
                fits = len(line) <= _LINE and number <= _LINES and isinstance(json.loads(line), dict)
            except (ValueError, RecursionError):
                fits = False
            if not fits:
                raise NotAccepted(f"Line {number:,} of {file.name} of the result is not a JSON object")


def _rank(config: Mapping[str, object]) -> int:
    rank = config.get("r")
    if type(rank) is not int or not 1 <= rank <= 10_000:
        raise NotAccepted(f"r in {CONFIG} of the result must be a whole number from 1 to 10,000")
    return rank


def _number(value: object) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None  # type: ignore[arg-type]


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 53 else 0


def _plain(value: object) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 2000)


def _other_base(model: ModelDir) -> str:
    return f"The result was made for another base than {model.root.name}, or for another version of its weights"
