"""A job, its events and checkpoints as OpenAI's API writes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from llm_installer.studio import states
from llm_installer.studio.options import VALIDATION
from llm_installer.studio.plain import Json
from llm_installer.studio.store.tables import Event, Job

JOB = "ftjob-"
STATUS = {
    states.QUEUED: "queued",
    states.PREPARING: "validating_files",
    states.COMPLETED: "succeeded",
    states.FAILED: "failed",
    states.CANCELLED: "cancelled",
}
"""What each state is there; the others are running."""


def job_json(job: Job) -> Json:
    """A fine_tuning.job."""
    options = job.options
    hyperparameters = {
        "n_epochs": options.get("epochs", "auto"),
        "batch_size": options.get("effective_batch_size", "auto"),
        "learning_rate_multiplier": "auto",
    }
    failed = {"code": "training_failed", "message": job.error, "param": None} if job.state == states.FAILED else None
    tokens = job.measured.get("tokens")
    return {
        "id": f"{JOB}{job.id}",
        "object": "fine_tuning.job",
        "created_at": int(job.created_at.timestamp()),
        "finished_at": int(job.finished_at.timestamp()) if job.finished_at else None,
        "estimated_finish": None,
        "model": job.model,
        "fine_tuned_model": tuned_name(job),
        "organization_id": "",
        "status": STATUS.get(job.state, "running"),
        "error": failed,
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "seed": job.seed if job.seed is not None else 42,
        "suffix": job.suffix or None,
        "training_file": job.file_id or "",
        "validation_file": options.get(VALIDATION),
        "result_files": [],
        "trained_tokens": tokens if isinstance(tokens, int) else None,
        "integrations": [],
        "metadata": job.labels,
    }


def tuned_name(job: Job) -> str | None:
    """The name by which `serve` offers what came of a job; None before it is completed."""
    name = job.result.get("model")
    return str(name) if job.state == states.COMPLETED and name else None


def event_json(event: Event) -> Json:
    """A fine_tuning.job.event."""
    return {
        "id": f"ftevent-{event.id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.at.timestamp()),
        "level": event.level,
        "message": _words(event),
        "type": "metrics" if event.type == "metrics" else "message",
        "data": event.data,
    }


def _words(event: Event) -> str:
    data = event.data
    if event.type == "metrics":
        loss = data.get("loss", data.get("validation_loss"))
        return f"Step {data.get('step')}: loss {loss:.4f}" if isinstance(loss, float) else f"Step {data.get('step')}"
    if event.type == "state":
        why = f": {data['why']}" if data.get("why") else ""
        return f"The job is {states.words_of(str(data.get('state')))}{why}"
    return str(data.get("text", ""))


def checkpoints_json(job: Job, metrics: Sequence[Event], saved: Collection[int]) -> list[Json]:
    """fine_tuning.job.checkpoint for each step of `saved`, the newest first, with the newest losses until there. The
    best one is the job's model; the others are resumed from, and served by no name."""
    best = job.result.get("best_step")
    steps = {*saved, *([best] if isinstance(best, int) and best and tuned_name(job) else ())}
    evaluations = [one for one in metrics if one.data.get("kind") == "evaluation"]
    found = []
    for step in sorted(steps, reverse=True):
        before = [one for one in evaluations if _step(one) <= step]
        losses = _losses(before[-1]) if before else {}
        name = tuned_name(job) if step == best else None
        found.append(
            {
                "id": f"ftckpt-{job.id[:8]}-{step}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": int((before[-1].at if before else job.updated_at).timestamp()),
                "fine_tuned_model_checkpoint": name or f"{job.model}:{job.run}:ckpt-step-{step}",
                "fine_tuning_job_id": f"{JOB}{job.id}",
                "metrics": {"step": step, **losses},
                "step_number": step,
            }
        )
    return found


def _step(event: Event) -> int:
    step = event.data.get("step")
    return step if isinstance(step, int) else 0


def _losses(evaluation: Event) -> Json:
    given = (("train_loss", "train_loss"), ("valid_loss", "validation_loss"))
    return {name: evaluation.data[own] for name, own in given if evaluation.data.get(own) is not None}
