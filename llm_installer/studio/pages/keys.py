"""What the key in the address of a run means: the id of a job, or model/run."""

from __future__ import annotations

from urllib.parse import quote

from llm_installer.core.paths import ModelDir, Run
from llm_installer.runs.listing import RunRow, list_runs
from llm_installer.studio.access.visible import refuse_run
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import view as views
from llm_installer.studio.pages.listing import row_of
from llm_installer.studio.store import jobs
from llm_installer.studio.store.refusals import NotAllowed, Unknown
from llm_installer.studio.store.tables import Job


def job_of(studio: Studio, job_id: str) -> Job:
    """A job. Raises Unknown."""
    with studio.store.reading() as session:
        return jobs.find(session, job_id)


def run_of(studio: Studio, key: str) -> Run | None:
    """The folder of what a key means, where it is on this machine. Raises Unknown."""
    if "/" in key:
        refuse_run(studio, key)
    return row_of(key)[1].run if "/" in key else views.run_of(job_of(studio, key))


def existing(studio: Studio, key: str) -> Run:
    """The same where there must be one. Raises Unknown, and NotAllowed where there is none yet."""
    if (run := run_of(studio, key)) is None:
        raise NotAllowed("This training has no folder on this machine yet")
    return run


def row_existing(studio: Studio, key: str) -> RunRow:
    """The run as lists show it. Raises as `existing`."""
    run = existing(studio, key)
    if row := next((one for one in list_runs(folder_of(run)) if one.run.id == run.id), None):
        return row
    raise Unknown(f"There is no run {key!r}")


def folder_of(run: Run) -> ModelDir:
    """The directory of its model."""
    return ModelDir(run.root.parent.parent)


def address(key: str) -> str:
    """Of the page of a run."""
    return f"/runs/{quote(key)}"
