"""What an adapter from elsewhere must be before it becomes a run of a model: each refusal is one sentence.

`take` does all of it for a result file that somebody drops on a page; `adopt` the part after the upload of a worker.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from llm_installer.core.adapter_info import CONFIG, INFO, read_adapter_info
from llm_installer.core.errors import AdapterError
from llm_installer.core.files import unwritable, write_folder, write_json
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import ADAPTER_FILE
from llm_installer.core.run.record import FINISHED, RunRecord
from llm_installer.core.text import shortened
from llm_installer.studio.checkpoints import RUN
from llm_installer.studio.colab.bundle import FILES, WEIGHTS
from llm_installer.studio.colab.texts import check_lines, other_base, rank_of, read_about, read_config, read_object
from llm_installer.studio.colab.unpack import unpack
from llm_installer.studio.colab.weights import check_weights
from llm_installer.studio.results import NotAccepted

ELSEWHERE = "elsewhere"
"""In the result of a run: the job by which it was trained on another machine, from where no checkpoint came."""
_MODE = re.compile(r"[a-z][a-z-]{0,30}")


@dataclass(frozen=True)
class Expected:
    """What a result must be of."""

    model: ModelDir
    job: str
    data: str = ""
    """The data, in the user's words."""
    run: str = ""
    """Id of the run where it was trained; it keeps that here where it can."""


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
            raise NotAccepted(other_base(expected.model))
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
    config, about = read_config(files[f"adapter/{CONFIG}"], model), read_about(files[f"adapter/{INFO}"], model)
    ranks = config.get("rank_pattern")
    check_weights(files[WEIGHTS], model.weights, ranks if isinstance(ranks, dict) else {}, rank_of(config))
    record, plan = read_object(files["run.json"]), read_object(files["plan.json"])
    for name in ("metrics.jsonl", "samples.jsonl"):
        if name in files:
            check_lines(files[name])
    return _as_run(files, expected, _Texts(config, about, plan, record))


@dataclass(frozen=True)
class _Texts:
    """The objects in the files of a result, checked."""

    config: dict[str, object]
    about: dict[str, object]
    plan: dict[str, object]
    record: dict[str, object]


def _as_run(files: Mapping[str, Path], expected: Expected, found: _Texts) -> Run:
    model, run = expected.model, _new_run(expected, found.plan.get("mode"))

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


def _new_run(expected: Expected, mode: object) -> Run:
    """An empty folder for the run."""
    runs = expected.model.runs
    if RUN.fullmatch(expected.run) and not (runs / expected.run).exists():
        try:
            (runs / expected.run).mkdir(parents=True)
            return Run(runs / expected.run)
        except FileExistsError:
            pass
    usual = mode if isinstance(mode, str) and _MODE.fullmatch(mode) else "medium"
    return expected.model.new_run(usual, datetime.now())


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
            "stop_reason": shortened(why, 200) if isinstance(why, str) else "",
            "improved": given.get("improved") is True, ELSEWHERE: expected.job,
        },
    )  # fmt: skip


def _number(value: object) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None  # type: ignore[arg-type]


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 53 else 0


def _plain(value: object) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 2000)
