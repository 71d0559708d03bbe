"""A job as JSON: for pages and programs, and for the worker that has it."""

from __future__ import annotations

from datetime import datetime

from llm_installer.studio.context import Studio
from llm_installer.studio.plain import Json
from llm_installer.studio.results import ADAPTER, files_of
from llm_installer.studio.store.tables import Event, File, Job


def when(time: datetime | None) -> str | None:
    """A time as ISO writes it, in UTC."""
    return time.isoformat() if time else None


def job_json(studio: Studio, job: Job) -> Json:
    """All that anyone who may see a job sees of it."""
    files = files_of(job.result)
    plain = ("model", "file_id", "options", "suffix", "priority", "engine", "state", "status", "progress", "step")
    more = ("steps", "attempt", "worker", "run", "result", "predicted", "measured", "labels")
    return {
        "job_id": job.id,
        **{name: getattr(job, name) for name in (*plain, *more)},
        "error": job.error or None,
        "colab_url": colab_url(studio, job),
        "adapter_url": f"{studio.base}/api/train/adapter/{job.id}" if adapter_there(job) else None,
        "files": [file.path for file in files],
        **{name: when(getattr(job, name)) for name in ("created_at", "updated_at", "started_at", "finished_at")},
    }


def colab_url(studio: Studio, job: Job) -> str:
    """Where the same job can be done on Colab: the page of this server that has the notebook and says how."""
    return f"{studio.base}/jobs/{job.id}/colab"


def adapter_there(job: Job) -> bool:
    """Whether an adapter was stored for it."""
    return any(file.path.startswith(ADAPTER) for file in files_of(job.result))


def work_json(job: Job, data: File | None, lease: float, sent: dict[str, int]) -> Json:
    """What a worker must know to do a job; `sent`: the last step of each kind of metrics that is known of it."""
    return {
        "id": job.id,
        "attempt": job.attempt,
        "state": job.state,
        "model": job.model,
        "options": job.options,
        "engine": job.engine,
        "seed": job.seed,
        "run": job.run,
        "lease": lease,
        "sent": sent,
        "data": {"name": data.name, "sha256": data.sha256, "bytes": data.bytes} if data else None,
    }


def event_json(event: Event) -> Json:
    """An event with its number."""
    return {"id": event.id, "at": when(event.at), "level": event.level, "type": event.type, "data": event.data}
