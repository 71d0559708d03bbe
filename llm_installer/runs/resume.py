"""Which run to resume, whether everything is as it was, and what to do where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from llm_installer.core.errors import TrainingError, UsageError
from llm_installer.core.model_info import fingerprint
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import STATE_FILE, newest_valid, read_state, resumable
from llm_installer.core.run.record import FINISHED, RunRecord
from llm_installer.core.text import short_path
from llm_installer.planning.checked_plan import check_plan
from llm_installer.planning.method import MOVES_BASE
from llm_installer.planning.options import Options, decides
from llm_installer.planning.plan import Plan
from llm_installer.planning.settings import built, flag
from llm_installer.runs.job import Job
from llm_installer.runs.listing import LAST

ANYWAY = "or add --resume-anyway to begin a new run from its weights alone"


@dataclass(frozen=True)
class Unfinished:
    """A run to resume, and from where."""

    run: Run
    record: RunRecord
    plan: Plan
    checkpoint: Path | None
    """None where the run ended before its first: then it starts again from step 0."""
    step: int
    """The last step of the checkpoint."""
    options: Options
    """What was asked then, with what was asked now about output."""
    changes: tuple[str, ...]
    """Options that change what is trained and are not what they were."""


def find_unfinished(folder: ModelDir, asked: Options, base: Path, say: Callable[[str], None]) -> Unfinished | None:
    """The run that --resume or --resume-from means; None where neither is given, and where the first of the runs that
    --resume with --data may mean is still to begin.

    Raises TrainingError or UsageError where there is none, or it cannot be resumed.
    """
    checkpoint: Path | None = None
    if asked.resume_from:
        run, checkpoint = named_run(folder, asked.resume_from, base)
    elif not asked.resume:
        return None
    elif newest := _newest(folder, asked):
        run = newest
    else:
        say(f"There is no run to resume in {short_path(folder.runs)} yet, so a new one begins.")
        return None
    checkpoint = checkpoint or newest_valid(run, say)
    record = RunRecord.read(run)
    if record is None:
        raise TrainingError(f"{short_path(run.root)} has no readable run.json and cannot be resumed; begin a new run")
    if record.status == FINISHED and not asked.resume_anyway:
        if record.result.get("elsewhere"):
            raise TrainingError(
                f"Run {run.id} was trained on another machine, where its checkpoints stayed, so it cannot be resumed; "
                "begin a new run with --data"
            )
        reason = record.result.get("stop_reason", "it is done")
        raise TrainingError(f"Run {run.id} is finished ({reason}); begin a new run, {ANYWAY}")
    options, changes = merge(Options.from_kwargs(**record.options), asked)
    try:
        plan = Plan.from_json(json.loads(run.plan.read_text(encoding="utf-8")))
        check_plan(plan)
    except (OSError, ValueError, RecursionError):
        raise TrainingError(
            f"{short_path(run.plan)} cannot be read, so the run cannot be resumed; begin a new run"
        ) from None
    state = read_state(checkpoint) if checkpoint else None
    if state and state.stop_reason and state.best_loss is None and not asked.resume_anyway:
        raise TrainingError(
            f"Run {run.id} cannot be resumed: its loss was never a finite number; begin a new run, "
            "with a lower learning rate: --learning-rate 1e-4"
        )
    step = state.step if state else 0
    return Unfinished(run, record, plan, checkpoint, step, options, tuple(changes))


def merge(then: Options, now: Options) -> tuple[Options, list[str]]:
    """The options of then with what now says, and which of those that change what is trained differ."""
    given = {k: v for k, v in now.given().items() if k not in ("model_path", "resume", "resume_from", "resume_anyway")}
    changes = [
        f"{flag(name)} was {_shown(getattr(then, name))}, now {value}"
        for name, value in given.items()
        if decides(name) and getattr(then, name) != value
    ]
    return built(Options, {**vars(then), "model_path": now.model_path, **given}), changes


def resumed(job: Job, unfinished: Unfinished, anyway: bool) -> Job:
    """The job that resumes an unfinished run; with `anyway` a new one from its weights where it could not be resumed.

    `job` is what a new run of the same options would be. Raises UsageError when data, model or options are not what
    they were, and names them.
    """
    run, since = unfinished.run, unfinished.checkpoint
    found = differences(unfinished, job)
    if found and not anyway:
        raise UsageError(f"Run {run.id} cannot be resumed as it was: {'; '.join(found)}. Undo that, {ANYWAY}")
    if since is None:
        stayed = "left its checkpoints on another machine" if unfinished.record.result.get("elsewhere") else None
        why = stayed or "ended before its first checkpoint"
        return replace(job, notes=(f"Run {run.id} {why}, so a new run starts.",))
    step = unfinished.step
    if found or unfinished.record.status == FINISHED:
        check_weights_fit(unfinished.plan, job.plan, fingerprint(job.info.path) == unfinished.record.model)
        note = (
            f"A new run begins with the weights of step {step} of {run.id}. Optimizer, schedule, position in the data, "
            "best loss and history start from zero."
        )
        return replace(job, since=since, notes=(note,))
    note = f"Resuming run {run.id} after step {step}."
    return replace(job, plan=unfinished.plan, run=run, since=since, notes=(note,))


def differences(unfinished: Unfinished, job: Job) -> list[str]:
    """Everything that is not as it was when the run began, in words."""
    then, rows, files = unfinished.record, job.rows_fingerprint, job.data_files
    found = list(unfinished.changes)
    if fingerprint(job.info.path) != then.model:
        found.append("the model has other weights")
    if job.hardware.device != unfinished.plan.device:
        found.append(f"the run was on {unfinished.plan.device}, this is {job.hardware.device}")
    changed = [name for name in then.files.keys() | files.keys() if then.files.get(name) != files.get(name)]
    if changed and rows != then.rows:
        found.append(f"the data changed: {', '.join(sorted(changed))}")
    elif rows != then.rows:
        found.append("the same data give other rows: tokenizer, chat template or this program changed")
    return found


def check_weights_fit(then: Plan, now: Plan, same_base: bool) -> None:
    """Raise UsageError when a new run could not begin with the old one's weights: they would mean something else."""
    layers = (then.target_modules, then.lora_r, then.method.rank_pattern, then.method.dora)
    scales = (then.method.scale(then.lora_r, then.lora_alpha), then.method.alpha_pattern)
    fits = layers == (now.target_modules, now.lora_r, now.method.rank_pattern, now.method.dora)
    fits = fits and scales == (now.method.scale(now.lora_r, now.lora_alpha), now.method.alpha_pattern)
    starts = {then.method.init, now.method.init}
    if starts & set(MOVES_BASE):
        fits = fits and same_base and len(starts) == 1
    if not fits:
        raise UsageError(
            f"The weights of that run ({then.method.name}, rank {then.lora_r}) mean nothing to the new one "
            f"({now.method.name}, rank {now.lora_r}{'' if same_base else ', another base'}); leave target modules, "
            "rank, alpha and method as they were, or begin a new run without --resume"
        )


def _newest(folder: ModelDir, asked: Options) -> Run | None:
    """The newest run that is not finished; None where --data says how to begin one, and no run has finished it."""
    runs = sorted((Run(f.parent) for f in folder.runs.glob("*/run.json")), key=lambda run: run.id, reverse=True)
    records = [(run, record) for run in runs if (record := RunRecord.read(run))]
    if unfinished := next((run for run, record in records if record.status != FINISHED), None):
        return unfinished
    done = next((run for run, record in records if record.data == str(asked.sources)), None)
    if asked.sources and not done:
        return None
    hint = (
        f"run {done.id} of this data is finished; train once more without --resume" if done else "begin one with --data"
    )
    raise TrainingError(f"There is no unfinished run in {short_path(folder.runs)}; {hint}")


def named_run(folder: ModelDir, asked: str, base: Path) -> tuple[Run, Path | None]:
    """(the run, the checkpoint) that a path of either means. Raises TrainingError where it means none."""
    runs = sorted((Run(file.parent) for file in folder.runs.glob("*/run.json")), key=lambda run: run.id)
    if asked == LAST and runs:
        return runs[-1], None
    for place in _places(folder, Path(asked).expanduser(), base, runs[-1:]):
        found = place.resolve()
        if (found / "run.json").is_file():
            return Run(found), None
        if found.parent.name == "checkpoints" and (found.parent.parent / "run.json").is_file() and found.is_dir():
            if not (found / STATE_FILE).is_file():
                raise TrainingError(f"{asked} holds weights only and cannot be resumed from; choose another checkpoint")
            return Run(found.parent.parent), found
    raise TrainingError(f"{asked} is neither a run nor a checkpoint of one; {_there_are(folder, runs)}")


def _places(folder: ModelDir, path: Path, base: Path, newest: list[Run]) -> list[Path]:
    """Where a path may lie that was given: in the current folder, in the newest run, or in the model directory.

    In the model directory the newest run comes first: the link `checkpoints` there may still be that of an older one.
    """
    here, last = [base / path], [place for run in newest for place in (run.root / path, run.checkpoints / path)]
    first = [*last, *here] if base.resolve() == folder.root.resolve() else [*here, *last]
    return [*first, folder.root / path, folder.runs / path]


def _there_are(folder: ModelDir, runs: list[Run]) -> str:
    """What can be named instead, as the end of a sentence."""
    if not runs:
        return f"there is no run in {short_path(folder.runs)} yet, so begin one with --data"
    found = [checkpoint.name for checkpoint in resumable(runs[-1])]
    if not found:
        return f"the newest run is {runs[-1].id}, which has no checkpoint; name a run with --resume-from runs/ID"
    return f"the newest run, {runs[-1].id}, has {', '.join(found)}; write --resume-from checkpoints/{found[0]}"


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)
