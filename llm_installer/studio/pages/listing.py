"""Which jobs and runs there are, and the one that a key means: the id of a job, or model/run."""

from __future__ import annotations

from llm_installer.core.home import model_names, models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import shortened
from llm_installer.runs.listing import RunRow, list_runs
from llm_installer.runs.versions import Versions
from llm_installer.studio import states
from llm_installer.studio.access.visible import only_own, refuse_run
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import view as views
from llm_installer.studio.pages.drawing import when
from llm_installer.studio.pages.stages import versions_of
from llm_installer.studio.pages.view import View
from llm_installer.studio.pages.words import for_page
from llm_installer.studio.store import events, files, jobs
from llm_installer.studio.store.jobs import Wanted
from llm_installer.studio.store.refusals import Unknown
from llm_installer.studio.store.tables import Job

Names = dict[str | None, str]
"""Of files, by their ids."""
SHOWN_EVENTS = 200
LISTED = 200


def view(studio: Studio, key: str) -> View:
    """The page of a key. Raises Unknown."""
    if "/" in key:
        refuse_run(studio, key)
        folder, row = row_of(key)
        return views.view_of_run(folder, row)
    with studio.store.reading() as session:
        job = jobs.find(session, key)
        last = events.last_number(session, key)
        shown = [one for one in reversed(events.newest(session, key, None, SHOWN_EVENTS))]
        file = files.find(session, job.file_id).name if job.file_id else ""
    return views.view_of_job(job, file, shown, last)


def listed(studio: Studio) -> tuple[list[View], list[dict[str, object]]]:
    """Jobs that have not ended, then everything that has, the newest first; a run of a job is there once."""
    with studio.store.reading() as session:
        found = list(jobs.listed(session, Wanted(most=LISTED)))
        names: Names = {job.file_id: files.find(session, job.file_id).name for job in found if job.file_id}
    waiting = [
        views.view_of_job(job, names.get(job.file_id, ""), (), 0) for job in found if job.state not in states.ENDED
    ]
    of_job = {(views.model_dir(job.model).root.name, job.run): job for job in found if views.run_of(job)}
    rows: list[tuple[str, dict[str, object]]] = []
    for model in model_names():
        folder = ModelDir(models_dir() / model)
        of_model = list_runs(folder)
        known = versions_of(folder, of_model)
        for row in of_model:
            job = of_job.get((model, row.run.id))
            if job is None and only_own():
                continue
            if job is None or job.state in states.ENDED:
                rows.append((row.started or row.run.id, _run_row(known, row, job, names)))
    for job in found:
        if job.state in states.ENDED and views.run_of(job) is None:
            rows.append((job.created_at.astimezone().isoformat(), _job_row(job, names)))
    rows.sort(key=lambda one: one[0], reverse=True)
    return waiting, [row for _, row in rows[:LISTED]]


def _run_row(known: Versions, row: RunRow, job: Job | None, names: Names) -> dict[str, object]:
    model = row.run.root.parent.parent.name
    data = names.get(job.file_id, "") if job else views.data_names(row)
    return {
        "key": job.id if job else f"{model}/{row.run.id}",
        "run": True,
        "title": f"{model} on {data}" if data else f"{model}, {row.run.id}",
        "about": f"{when(row.started)}, mode {row.mode}, {row.steps:,} steps",
        "loss": views.rows_loss(row),
        "version": f"{model}/{number}" if (number := known.numbers.get(row.run.id)) else "",
        "stage": known.stage_of(row.run.id),
        "state": job.state if job else row.status,
        "words": states.words_of(job.state) if job else states.words_of_run(row.status),
        "current": row.current,
    }


def _job_row(job: Job, names: Names) -> dict[str, object]:
    data = names.get(job.file_id, "its data")
    return {
        "key": job.id,
        "run": False,
        "title": f"{job.model} on {data}",
        "about": f"{when(job.created_at)}; {for_page(shortened(job.error, 160))}"
        if job.error
        else when(job.created_at),
        "loss": "",
        "version": "",
        "stage": "",
        "state": job.state,
        "words": states.words_of(job.state),
        "current": False,
    }


def row_of(key: str) -> tuple[ModelDir, RunRow]:
    """The run of model/run. Raises Unknown."""
    model, _, run = key.partition("/")
    if model in model_names():
        folder = ModelDir(models_dir() / model)
        for row in list_runs(folder):
            if row.run.id == run:
                return folder, row
    raise Unknown(f"There is no run {key!r}")
