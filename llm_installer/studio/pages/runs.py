"""The pages of runs: all of them, one while it trains and afterwards, and several beside each other."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

from llm_installer.core.home import model_names, models_dir
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.requests import SAVE, STOP, write_request
from llm_installer.core.text import shortened
from llm_installer.runs.listing import RunRow, list_runs, remove, use
from llm_installer.studio import states
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import view as views
from llm_installer.studio.pages.drawing import PageRoute, drawn, templates, to, when
from llm_installer.studio.pages.view import View
from llm_installer.studio.store import events, files, jobs
from llm_installer.studio.store.jobs import Wanted
from llm_installer.studio.store.refusals import NotAllowed, Unknown
from llm_installer.studio.store.tables import Job

Names = dict[str | None, str]
"""Of files, by their ids."""
SHOWN_EVENTS = 200
LISTED = 200
TAKEN = ("report.md", "metrics.jsonl", "dropped.jsonl", "plan.json", "samples.jsonl")
"""Files of a run that can be downloaded."""


def router_of(studio: Studio) -> APIRouter:
    """The routes of these pages. A key is the id of a job, or model/run."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    _lists(router, studio)
    _live(router, studio)
    _files(router, studio)
    _actions(router, studio)

    @router.get("/runs/{key:path}")
    def run(key: str) -> Response:
        return drawn("run.html", here="Runs", view=view(studio, key))

    return router


def _lists(router: APIRouter, studio: Studio) -> None:
    @router.get("/runs")
    def runs() -> Response:
        waiting, rows = listed(studio)
        return drawn("runs.html", here="Runs", waiting=waiting, rows=rows)

    @router.get("/compare")
    def compare(request: Request) -> Response:
        run = request.query_params.getlist("run")
        chosen = [view(studio, key) for key in run[:8]]
        found = [one for key in run[:8] if (one := _run(studio, key))]
        rows: list[tuple[str, list[str]]] = []
        if len(chosen) > 1 and len(found) == len(chosen):
            figures = [dict(one.figures) for one in chosen]
            for name in ("best", "before training", "time taken"):
                rows.append((name, [known.get(name, "-") for known in figures]))
            rows += views.differences(found)
        return drawn("compare.html", here="Runs", views=chosen, differences=rows)


def _live(router: APIRouter, studio: Studio) -> None:
    @router.get("/runs/{key:path}/points")
    def points(key: str) -> Response:
        run = _run(studio, key)
        if run and run.metrics.is_file():
            return JSONResponse({"points": views.metrics(run)})
        with studio.store.reading() as session:
            found = events.of_type(session, key, events.METRICS)
        return JSONResponse({"points": views.points_of(event.data for event in found)})

    @router.get("/runs/{job_id}/live")
    async def live(job_id: str, after: int = 0, last_event_id: int | None = Header(default=None)) -> Response:
        await run_in_threadpool(lambda: _job(studio, job_id))
        stream = _stream(studio, job_id, after if last_event_id is None else last_event_id)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _stream(studio: Studio, job_id: str, last: int) -> AsyncIterator[str]:
    """New points as JSON, and what stands above them as HTML, until the job has ended."""
    _, missed, newest = await run_in_threadpool(lambda: studio.tail.missed(job_id, last))
    if missed > 1000:
        yield _sent("snapshot", "{}", newest)
        last = newest
    ended, page = await run_in_threadpool(lambda: _now(studio, job_id))
    yield _sent("", page, last)
    if ended and not missed:
        yield _sent("end", "{}", last)
        return
    async for found in studio.tail.follow(job_id, last):
        if found is None:
            yield ": still here\n\n"
            continue
        if points := views.points_of(event.data for event in found if event.type == events.METRICS):
            yield _sent("points", json.dumps(points), found[-1].id)
        ended, page = await run_in_threadpool(lambda: _now(studio, job_id))
        yield _sent("", page, found[-1].id)
        if ended:
            yield _sent("end", "{}", found[-1].id)
            return


def _sent(event: str, data: str, number: int) -> str:
    """A message of a stream of events."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines())
    return f"{f'event: {event}' + chr(10) if event else ''}id: {number}\n{lines}\n"


def _now(studio: Studio, job_id: str) -> tuple[bool, str]:
    found = view(studio, job_id)
    return not found.live, templates().get_template("now.html").render(view=found)


def _files(router: APIRouter, studio: Studio) -> None:
    @router.get("/runs/{key:path}/adapter.zip")
    def adapter(key: str) -> Response:
        run = _existing(studio, key)
        body = zipped(run.adapter)
        name = quote(f"{run.root.parent.parent.name}-{run.id}.zip")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return StreamingResponse(body, media_type="application/zip", headers=headers)

    @router.get("/runs/{key:path}/files/{name}")
    def file(key: str, name: str) -> Response:
        place = _existing(studio, key).root / name
        if name not in TAKEN or not place.is_file():
            raise Unknown(f"This run has no file {name!r}")
        return FileResponse(place, media_type="text/plain; charset=utf-8", filename=name)


def zipped(folder: Path) -> Iterator[bytes]:
    """The files of a folder as a zip, piece by piece; links are left out."""
    out = _Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(folder.rglob("*")):
            inside = not file.is_symlink() and not any(one.is_symlink() for one in file.relative_to(folder).parents)
            if file.is_file() and inside:
                with (
                    file.open("rb") as read,
                    packed.open(str(file.relative_to(folder)), "w", force_zip64=True) as to_zip,
                ):
                    while piece := read.read(1 << 20):
                        to_zip.write(piece)
                        yield out.taken()
    yield out.taken()


class _Pipe(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]
        self._kept += piece
        return len(piece)

    def taken(self) -> bytes:
        found, self._kept = bytes(self._kept), bytearray()
        return found


def _actions(router: APIRouter, studio: Studio) -> None:
    @router.post("/runs/{job_id}/cancel")
    def cancel(job_id: str) -> Response:
        with studio.store.writing() as session:
            jobs.cancel(studio.store, session, job_id)
        studio.tail.wake(job_id)
        return to(f"/runs/{job_id}")

    @router.post("/runs/{job_id}/again")
    def again(job_id: str) -> Response:
        with studio.store.writing() as session:
            jobs.again(studio.store, session, job_id)
        studio.tail.wake(job_id)
        return to(f"/runs/{job_id}")

    for name, kind in (("stop", STOP), ("save", SAVE)):
        router.add_api_route(f"/runs/{{key:path}}/{name}", _asking(studio, kind), methods=["POST"])

    @router.post("/runs/{key:path}/use")
    def use_it(key: str) -> Response:
        run = _existing(studio, key)
        use(_folder(run), run.id)
        return to(_address(key))

    @router.post("/runs/{key:path}/delete")
    def delete(key: str) -> Response:
        run = _existing(studio, key)
        remove(_folder(run), run.id)
        return to("/runs")


def _asking(studio: Studio, kind: str) -> Callable[[str], Response]:
    def ask(key: str) -> Response:
        write_request(_existing(studio, key), kind)
        return to(_address(key))

    return ask


def view(studio: Studio, key: str) -> View:
    """The page of a key. Raises Unknown."""
    if "/" in key:
        folder, row = _row(key)
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
    of_job = {(views.model_dir(job.model).root.name, job.run): job for job in found if job.run}
    rows: list[tuple[str, dict[str, object]]] = []
    for model in model_names():
        for row in list_runs(ModelDir(models_dir() / model)):
            job = of_job.get((model, row.run.id))
            if job is None or job.state in states.ENDED:
                rows.append((row.started or row.run.id, _run_row(model, row, job, names)))
    for job in found:
        if job.state in states.ENDED and views.run_of(job) is None:
            rows.append((job.created_at.astimezone().isoformat(), _job_row(job, names)))
    rows.sort(key=lambda one: one[0], reverse=True)
    return waiting, [row for _, row in rows[:LISTED]]


def _run_row(model: str, row: RunRow, job: Job | None, names: Names) -> dict[str, object]:
    data = names.get(job.file_id, "") if job else shortened(row.data, 60)
    return {
        "key": job.id if job else f"{model}/{row.run.id}",
        "run": True,
        "title": f"{model} on {data}" if data else f"{model}, {row.run.id}",
        "about": f"{when(row.started)}, mode {row.mode}, {row.steps:,} steps",
        "loss": views.rows_loss(row),
        "state": job.state if job else row.status,
        "words": states.words_of(job.state) if job else row.status,
        "current": row.current,
    }


def _job_row(job: Job, names: Names) -> dict[str, object]:
    data = names.get(job.file_id, "its data")
    return {
        "key": job.id,
        "run": False,
        "title": f"{job.model} on {data}",
        "about": f"{when(job.created_at)}; {shortened(job.error, 160)}" if job.error else when(job.created_at),
        "loss": "",
        "state": job.state,
        "words": states.words_of(job.state),
        "current": False,
    }


def _job(studio: Studio, job_id: str) -> Job:
    with studio.store.reading() as session:
        return jobs.find(session, job_id)


def _row(key: str) -> tuple[ModelDir, RunRow]:
    """The run of model/run. Raises Unknown."""
    model, _, run = key.partition("/")
    if model in model_names():
        folder = ModelDir(models_dir() / model)
        for row in list_runs(folder):
            if row.run.id == run:
                return folder, row
    raise Unknown(f"There is no run {key!r}")


def _run(studio: Studio, key: str) -> Run | None:
    """The folder of what a key means, where it is on this machine. Raises Unknown."""
    return _row(key)[1].run if "/" in key else views.run_of(_job(studio, key))


def _existing(studio: Studio, key: str) -> Run:
    if (run := _run(studio, key)) is None:
        raise NotAllowed("This training has no folder on this machine yet")
    return run


def _folder(run: Run) -> ModelDir:
    return ModelDir(run.root.parent.parent)


def _address(key: str) -> str:
    return f"/runs/{quote(key)}"
