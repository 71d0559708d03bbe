"""What was decided before the first weight is loaded, and the run folder that records it, begun with its run.json."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from llm_installer.core.errors import Interrupted
from llm_installer.core.examples import Kind
from llm_installer.core.files import write_json
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo, fingerprint
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.forecast import Duration, Forecast
from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.record import FAILED, RUNNING, STOPPED, RunRecord
from llm_installer.core.state import Result, RunState
from llm_installer.core.text import without_password
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.prompts import Prompt
from llm_installer.data.prepare import Given, Prepared, write_dropped
from llm_installer.data.store.cache import content_hash
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan


@dataclass(frozen=True)
class Job:
    """Everything decided before the first weight is loaded."""

    options: Options
    base: Path
    """The folder that relative paths of the options are below."""
    folder: ModelDir
    info: ModelInfo
    handler: Handler
    hardware: Hardware
    encoder: Encoder
    given: Given
    prepared: Prepared
    plan: Plan
    run: Run | None = None
    """The run to resume; None for a new one."""
    since: Path | None = None
    """The checkpoint to resume from; for a new run, the one whose weights it begins with."""
    notes: tuple[str, ...] = ()
    """What there is to say beside the plan, in sentences."""
    prompts: Sequence[Prompt] = ()
    """The user's own, answered at each evaluation."""
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds spent before the first step, by phase."""
    forecast: Forecast | None = None
    """How long the run will take; None before that was timed."""
    forecast_at: float = 0.0
    """When it was made, by the monotonic clock."""

    @property
    def kind(self) -> Kind:
        """The kind most examples have: it decides how the adapter is talked to."""
        seen = range(0, len(self.given.train), max(1, len(self.given.train) // 1000))
        return Counter(self.given.train[i].kind for i in seen).most_common(1)[0][0]

    @property
    def rows_fingerprint(self) -> str:
        """One hash for the training and the validation rows."""
        return f"{self.prepared.train.fingerprint()}-{self.prepared.validation.fingerprint()}"

    @property
    def data_files(self) -> dict[str, str]:
        """Content hashes of the data files, by the names they are reported under."""
        return {name: content_hash(path) for name, path in self.given.loaded.paths.items()}

    def header(self, run: Run, before: RunState) -> RunHeader:
        """What reporters show of a run before its first step; `before` is the state that earlier sessions left."""
        plan, facts = self.plan, self.prepared.facts
        return RunHeader(
            model=self.info.name,
            method=plan.method.name,
            mode=plan.mode,
            run=run,
            model_dir=self.folder,
            total_steps=plan.course.total_steps,
            epochs=plan.course.epochs,
            patience=plan.course.limits.patience if "patience" in plan.course.stop_rules else 0,
            perplexity=plan.task == "text",
            rows=facts.rows,
            validation_rows=facts.validation_rows,
            start_step=before.step,
            before=before,
            forecast=self.forecast,
        )


def begin(job: Job) -> Run:
    """A new run folder with everything that was decided."""
    now = datetime.now()
    run = job.folder.new_run(job.plan.mode, now)
    write_json(run.plan, job.plan.to_json())
    write_dropped(run.dropped, job.given, job.prepared)
    RunRecord(
        status=RUNNING,
        started=now.isoformat(timespec="seconds"),
        options={k: _stored(v) for k, v in job.options.given().items() if k not in ("model_path", "resume")},
        base=str(job.base),
        rows=job.rows_fingerprint,
        files=job.data_files,
        model=fingerprint(job.info.path),
        data=without_password(str(job.options.sources)),
    ).write(run)
    return run


def _stored(value: object) -> object:
    return without_password(value) if isinstance(value, str) else value


def replanned(job: Job, run: Run, plan: Plan) -> Job:
    """The job with the plan as it is at the end, written again where memory ran out on the way and changed it."""
    if plan != job.plan:
        write_json(run.plan, plan.to_json())
    return replace(job, plan=plan)


def took(job: Job, state: RunState) -> Duration | None:
    """What the run was predicted to take, and what it took until now; None where nothing was timed."""
    if job.forecast is None:
        return None
    phases, evaluations = state.phases, len(state.history)
    return replace(
        Duration.planned(job.forecast),
        took_seconds=job.forecast.before + time.monotonic() - job.forecast_at,
        step_seconds=phases.get("train", 0.0) / state.step if state.step else None,
        evaluation_seconds=phases.get("evaluate", 0.0) / evaluations if evaluations else None,
    )


@contextmanager
def recorded(run: Run) -> Iterator[list[tuple[str, Result]]]:
    """Keep run.json true: running, then what the caller appends; where it appends nothing, the run failed or, when
    somebody asked for its end, was stopped."""
    record = RunRecord.read(run)
    assert record is not None, "the run was begun"
    replace(record, status=RUNNING, result={}).write(run)
    ended: list[tuple[str, Result]] = []
    otherwise = FAILED
    try:
        yield ended
    except (Interrupted, KeyboardInterrupt):
        otherwise = STOPPED
        raise
    finally:
        status, result = ended[0] if ended else (otherwise, None)
        found = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(result).items()} if result else {}
        with nullcontext() if ended else suppress(OSError):  # a full disk must not hide why the run failed
            replace(record, status=status, result=found).write(run)
