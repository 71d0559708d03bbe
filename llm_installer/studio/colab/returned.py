"""A job on its way to Colab without a path back, and its result when a person brings it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir, Run
from llm_installer.studio import blobs
from llm_installer.studio.colab.accept import Expected, adopt, take
from llm_installer.studio.colab.notebook import NotebookJob, elsewhere, fitted
from llm_installer.studio.context import Studio
from llm_installer.studio.options import VALIDATION, words
from llm_installer.studio.results import ResultFile, as_json
from llm_installer.studio.states import CLAIMABLE, COMPLETED, ENDED, HELD, PREPARING
from llm_installer.studio.store import claims, files, jobs
from llm_installer.studio.store.refusals import NotAllowed
from llm_installer.studio.store.tables import Job
from llm_installer.studio.worker.run_folder import files_of, result_of


def to_carry(studio: Studio, job_id: str) -> NotebookJob:
    """What the notebook of a job says. Raises NotAllowed for what it cannot carry, ModelError where its base cannot be
    had elsewhere."""
    with studio.store.reading() as session:
        job = jobs.find(session, job_id)
        if not job.file_id or VALIDATION in job.options:
            raise NotAllowed("A notebook carries one file of data; leave the file for validation out of this job")
        data = files.find(session, job.file_id)
    base = _folder(job.model)
    name, revision = elsewhere(base)
    asked = fitted(words(job.options), read_model_info(base.weights, base.root.name))
    content = files.content_of(studio.folder, data).read_bytes()
    return NotebookJob(job.id, name, revision, asked, data.name, content)


def refuse_unless_wanted(job: Job) -> None:
    """Raise NotAllowed where a job has its result, or somebody is at work on it."""
    if job.state == COMPLETED:
        raise NotAllowed(f"Job {job.id} has its result already")
    if job.state in HELD and job.worker != claims.NOTEBOOK:
        raise NotAllowed(f"Job {job.id} is being done by {job.worker}; cancel it first")


def returned(studio: Studio, job_id: str, bundle: Path) -> Job:
    """Make a result file the result of a job, and a run of its model. Raises NotAccepted, NotAllowed, DiskError."""
    with studio.store.reading() as session:
        job = jobs.find(session, job_id)
        refuse_unless_wanted(job)
        name = files.find(session, job.file_id).name if job.file_id else ""
    model = _folder(job.model)
    run = take(bundle, Expected(model, job_id, name))
    try:
        return _completed(studio, job_id, model, run)
    except NotAllowed:  # somebody was faster
        shutil.rmtree(run.root, ignore_errors=True)
        raise


@contextmanager
def made_a_run(studio: Studio, job_id: str, attempt: int, found: Sequence[ResultFile]) -> Iterator[Run | None]:
    """What a worker elsewhere has sent is a run of the model, where that is installed here; None where there is nothing
    to do. There is no run where the body fails. Raises NotAccepted for an adapter that does not belong on the model."""
    run, done = _from_worker(studio, job_id, attempt, found), False
    try:
        yield run
        done = True
    finally:
        if run and not done:
            shutil.rmtree(run.root, ignore_errors=True)


def _from_worker(studio: Studio, job_id: str, attempt: int, found: Sequence[ResultFile]) -> Run | None:
    with studio.store.reading() as session:
        job = jobs.find(session, job_id)
        name = files.find(session, job.file_id).name if job.file_id else ""
    if job.engine == "local" or job.attempt != attempt or job.state in ENDED:
        return None
    try:
        model = ModelDir.find(job.model)
    except ModelError:
        return None
    sent = {one.path: blobs.place(studio.folder, one.sha256) for one in found}
    own = model.runs / Path(job.run).name
    if job.run and all(
        (own / path).is_file() and blobs.file_hash(own / path) == file.name for path, file in sent.items()
    ):
        return None  # a worker on this very machine: the run is here
    return adopt(sent, Expected(model, job_id, name, job.run))


def _completed(studio: Studio, job_id: str, model: ModelDir, run: Run) -> Job:
    kept = [_stored(studio.folder, path, file) for path, file in files_of(run).items()]
    result, measured = result_of(model, run)
    with studio.store.writing() as session:
        job = jobs.locked(session, job_id)
        refuse_unless_wanted(job)
        if job.state in ENDED:
            job = jobs.again(studio.store, session, job_id)
        if job.state in CLAIMABLE:
            job.attempt, job.worker, job.engine = job.attempt + 1, claims.NOTEBOOK, "colab"
            jobs.move(job, PREPARING, session, studio.store.now(session))
        job.run, job.measured = run.id, {**job.measured, **measured}
        return claims.complete(studio.store, session, job_id, job.attempt, {**result, "files": as_json(kept)})


def _stored(folder: Path, path: str, file: Path) -> ResultFile:
    """A file of a run among the contents that can be downloaded."""
    sha256, total = blobs.file_hash(file), file.stat().st_size
    start, complete = blobs.received(folder, sha256)
    with file.open("rb") as content:
        content.seek(start)
        while not complete:
            start, complete = blobs.write(folder, sha256, start, content.read(blobs.PIECE), total)
    return ResultFile(path, sha256, total)


def _folder(name: str) -> ModelDir:
    try:
        return ModelDir.find(name)
    except ModelError as error:
        raise NotAllowed(
            f"The result of a notebook becomes a run of {name} here, so it has to be installed: {error}"
        ) from None
