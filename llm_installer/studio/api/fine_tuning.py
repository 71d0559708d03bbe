"""/v1/fine_tuning/jobs, as OpenAI's clients call it: the same jobs by other names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, Field

from llm_installer.core.errors import ModelError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import resumable
from llm_installer.server.problems import invalid
from llm_installer.studio.access.visible import of_job
from llm_installer.studio.api.openai_shapes import JOB, checkpoints_json, event_json, job_json
from llm_installer.studio.checkpoints import RUN
from llm_installer.studio.context import Studio
from llm_installer.studio.curated import CURATED
from llm_installer.studio.options import VALIDATION, checked, checked_model
from llm_installer.studio.plain import Json
from llm_installer.studio.store import checkpoints as stored
from llm_installer.studio.store import events, files, jobs
from llm_installer.studio.store.jobs import NewJob, Wanted
from llm_installer.studio.store.tables import Job

AUTO = "auto"
Choice = int | float | str | None
Label = Annotated[str, Field(max_length=512)]


class Hyperparameters(BaseModel):
    """What OpenAI's API lets one choose; "auto" leaves it to this program."""

    n_epochs: Choice = None
    batch_size: Choice = None
    learning_rate_multiplier: Choice = None


class Supervised(BaseModel):
    """Settings of the method."""

    hyperparameters: Hyperparameters | None = None


class Method(BaseModel):
    """How to learn."""

    type: str = "supervised"
    supervised: Supervised | None = None


class Asked(BaseModel):
    """A new fine-tuning job. `options` are those of `train`, which OpenAI's API does not have."""

    model: str
    training_file: str
    validation_file: str | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, Field(max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=(1 << 31) - 1)] | None = None
    metadata: Annotated[dict[Annotated[str, Field(max_length=64)], Label], Field(max_length=16)] | None = None
    options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)


def router_of(studio: Studio) -> APIRouter:
    """The routes below /v1/fine_tuning/jobs."""
    router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])

    @router.post("")
    def create(asked: Asked, idempotency_key: str | None = Header(None, max_length=255)) -> Json:
        """Create a job."""
        new = _new(asked, idempotency_key)
        with studio.store.reading() as session:
            for file_id in filter(None, (asked.training_file, asked.validation_file)):
                files.find(session, file_id)
        return job_json(jobs.create(studio.store, new)[0])

    @router.get("")
    def listed(limit: int = Query(20, ge=1, le=100), after: str = "") -> Json:
        """Jobs, the newest first."""
        with studio.store.reading() as session:
            found = jobs.listed(session, Wanted(most=limit + 1, after=_plain(after)))
        return {"object": "list", "data": [job_json(job) for job in found[:limit]], "has_more": len(found) > limit}

    @router.get("/{job_id}")
    def one(job_id: str) -> Json:
        """A job."""
        with studio.store.reading() as session:
            return job_json(jobs.find(session, _plain(job_id)))

    _acts(router, studio)
    _sub_resources(router, studio)
    return router


def _acts(router: APIRouter, studio: Studio) -> None:
    @router.post("/{job_id}/cancel")
    def cancel(job_id: str) -> Json:
        """Cancel a job."""
        with studio.store.writing() as session:
            job = jobs.cancel(studio.store, session, _plain(job_id))
        studio.tail.wake(job.id)
        return job_json(job)

    @router.post("/{job_id}/resume")
    def resume(job_id: str) -> Json:
        """Queue a job once more that failed or was cancelled; it resumes where it can."""
        with studio.store.writing() as session:
            job = jobs.again(studio.store, session, _plain(job_id))
        studio.tail.wake(job.id)
        return job_json(job)


def _sub_resources(router: APIRouter, studio: Studio) -> None:
    @router.get("/{job_id}/events")
    def happened(job_id: str, limit: int = Query(20, ge=1, le=100), after: str = "") -> Json:
        """What happened to a job, the newest first."""
        before = _number(after)
        with studio.store.reading() as session:
            jobs.find(session, _plain(job_id))
            found = events.newest(session, _plain(job_id), before, limit + 1)
        return {"object": "list", "data": [event_json(one) for one in found[:limit]], "has_more": len(found) > limit}

    @router.get("/{job_id}/checkpoints")
    def checkpoints(job_id: str, limit: int = Query(10, ge=1, le=100), after: str = "") -> Json:
        """The checkpoints of a job that are there, the newest first, with the losses that were known by then."""
        with studio.store.reading() as session:
            job = jobs.find(session, _plain(job_id))
            kept = stored.newest(session, job.id)
            saved = {*_saved_here(job), *([kept.step] if kept else [])}
            found = checkpoints_json(job, events.of_type(session, job.id, events.METRICS), saved)
        ids = [one["id"] for one in found]
        rest = found[ids.index(after) + 1 :] if after in ids else found
        ends = {"first_id": rest[0]["id"] if rest else None, "last_id": rest[:limit][-1]["id"] if rest else None}
        return {"object": "list", "data": rest[:limit], "has_more": len(rest) > limit, **ends}


def _saved_here(job: Job) -> list[int]:
    """Steps of the checkpoints in the folder of its run, where it was trained on this machine."""
    try:
        run = Run(ModelDir.find(job.model).runs / job.run) if RUN.fullmatch(job.run) else None
    except ModelError:
        return []
    own = run if run and of_job(run, job.id) else None
    return [int(folder.name.rpartition("-")[2]) for folder in resumable(own)] if own else []


def _new(asked: Asked, key: str | None) -> NewJob:
    """The job that is asked for. Raises Problem and BadOption."""
    method = asked.method or Method()
    if method.type != "supervised":
        raise invalid(f"method {method.type!r} is not done here; only supervised is", "method.type")
    given = (method.supervised and method.supervised.hyperparameters) or asked.hyperparameters or Hyperparameters()
    options = checked({**_hyperparameters(given), **asked.options})
    if asked.validation_file:
        options[VALIDATION] = asked.validation_file
    if asked.seed is not None:
        options["seed"] = asked.seed
    model = CURATED.get(asked.model.lower(), checked_model(asked.model))
    return NewJob(
        model,
        asked.training_file,
        options,
        suffix=asked.suffix or "",
        seed=asked.seed,
        labels=dict(asked.metadata or {}),
        key=key,
    )


def _hyperparameters(given: Hyperparameters) -> Json:
    if given.learning_rate_multiplier not in (None, AUTO, 1, 1.0):
        raise invalid(
            "learning_rate_multiplier would multiply a rate that this program chooses for the model; say the rate "
            'itself, with extra_body={"options": {"learning_rate": 2e-4}}',
            "hyperparameters.learning_rate_multiplier",
        )
    found: Json = {}
    for name, option in (("n_epochs", "epochs"), ("batch_size", "effective_batch_size")):
        value = getattr(given, name)
        if value in (None, AUTO):
            continue
        if not isinstance(value, (int, float)) or value <= 0:
            raise invalid(f"{name} must be a number above 0, or auto", f"hyperparameters.{name}")
        found[option] = value
    return found


def _plain(job_id: str) -> str:
    """A job's own id."""
    return job_id.removeprefix(JOB)


def _number(after: str) -> int | None:
    """The number in the id of an event."""
    digits = after.removeprefix("ftevent-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None
