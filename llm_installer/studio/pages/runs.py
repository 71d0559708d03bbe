"""The pages of runs: all of them, one while it trains and afterwards, and several beside each other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

from llm_installer.core.run.requests import SAVE, STOP, write_request
from llm_installer.runs.listing import remove, use
from llm_installer.runs.versions import PRODUCTION, read_versions
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import exports, registry
from llm_installer.studio.pages.archive import zipped
from llm_installer.studio.pages.drawing import PageRoute, drawn, templates, to
from llm_installer.studio.pages.keys import address, existing, folder_of, job_of, row_existing, run_of
from llm_installer.studio.pages.listing import listed, view
from llm_installer.studio.pages.points import differences, metrics, points_of
from llm_installer.studio.pages.view import View
from llm_installer.studio.states import ENDED, words_of
from llm_installer.studio.store import cleaning, events, jobs
from llm_installer.studio.store.refusals import NotAllowed, Unknown

TAKEN = ("report.md", "metrics.jsonl", "dropped.jsonl", "plan.json", "samples.jsonl")
"""Files of a run that can be downloaded."""

COMPARED = ("best", "before training", "time taken")
"""Figures of runs that stand beside each other."""
MOST_COMPARED = 12
Number = Annotated[int, Query(ge=0, le=1 << 62)]
LastEventId = Annotated[int | None, Header(ge=0, le=1 << 62)]
"""An event, by the number that databases have for it."""

ASKED = {
    STOP: "It was asked to stop: it finishes its step, goes back to its best state and writes its report.",
    SAVE: "It was asked to save; the checkpoint is written after this step.",
}
"""What is said once a run was asked for something, since it takes a while until it answers."""


def router_of(studio: Studio) -> APIRouter:
    """The routes of these pages. A key is the id of a job, or model/run."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    _lists(router, studio)
    _live(router, studio)
    _files(router, studio)
    _actions(router, studio)

    @router.get("/runs/{key:path}")
    def run(key: str, asked: str = "") -> Response:
        found = view(studio, key)
        here = run_of(studio, key)
        said = ASKED.get(asked, "") if found.running else registry.SAID.get(asked, "")
        made = exports.listed(studio, here) if here and not found.live else []
        return drawn("run.html", here="Runs", view=found, said=said, key=key, exports=made)

    return router


def _lists(router: APIRouter, studio: Studio) -> None:
    @router.get("/runs")
    def runs(back: str = "") -> Response:
        waiting, rows = listed(studio)
        stages = registry.in_production(studio)
        now = next((one.version for one in stages if one.model == back), "")
        said = f"{now} is in production again." if now else ""
        return drawn("runs.html", here="Runs", waiting=waiting, rows=rows, stages=stages, said=said)

    @router.get("/compare")
    def compare(request: Request) -> Response:
        keys = list(dict.fromkeys(request.query_params.getlist("run")))
        found = [(view(studio, key), run) for key in keys[:MOST_COMPARED] if (run := run_of(studio, key))]
        chosen = _told_apart([one for one, _ in found])
        figures = [dict(one.figures) for one in chosen]
        columns = [("version", [one.version for one in chosen])] if any(one.version for one in chosen) else []
        columns += [(name, [known.get(name, "-") for known in figures]) for name in COMPARED]
        columns += differences([run for _, run in found])
        return drawn("compare.html", here="Runs", views=chosen, columns=columns, left_out=len(keys) - len(found))


def _told_apart(chosen: list[View]) -> list[View]:
    """Runs of one model on one file have one title; with their names it is clear which is which."""
    titles = [one.title for one in chosen]
    return [
        replace(one, title=f"{one.title}, {one.about.rpartition(', ')[2]}") if titles.count(one.title) > 1 else one
        for one in chosen
    ]


def _live(router: APIRouter, studio: Studio) -> None:
    @router.get("/runs/{key:path}/points")
    def points(key: str) -> Response:
        run = run_of(studio, key)
        if run and run.metrics.is_file():
            return JSONResponse({"points": metrics(run)})
        with studio.store.reading() as session:
            found = events.of_type(session, key, events.METRICS)
        return JSONResponse({"points": points_of(event.data for event in found)})

    @router.get("/runs/{job_id}/live")
    async def live(job_id: str, after: Number = 0, last_event_id: LastEventId = None) -> Response:
        await run_in_threadpool(lambda: job_of(studio, job_id))
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
    if ended and last >= newest:
        yield _sent("end", "{}", last)
        return
    try:
        async for found in studio.tail.follow(job_id, last):
            if found is None:
                yield ": still here\n\n"
                continue
            if found_points := points_of(event.data for event in found if event.type == events.METRICS):
                yield _sent("points", json.dumps(found_points), found[-1].id)
            ended, page = await run_in_threadpool(lambda: _now(studio, job_id))
            yield _sent("", page, found[-1].id)
            if ended:
                yield _sent("end", "{}", found[-1].id)
                return
    except Unknown:  # it was deleted
        yield _sent("end", "{}", last)


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
        run = existing(studio, key)
        body = zipped(run.adapter)
        name = quote(f"{run.root.parent.parent.name}-{run.id}.zip")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return StreamingResponse(body, media_type="application/zip", headers=headers)

    @router.get("/runs/{key:path}/files/{name}")
    def file(key: str, name: str) -> Response:
        place = existing(studio, key).root / name
        if name not in TAKEN or not place.is_file():
            raise Unknown(f"This run has no file {name!r}")
        return FileResponse(place, media_type="text/plain; charset=utf-8", filename=name)


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
        run = existing(studio, key)
        use(folder_of(run), run.id)
        return to(address(key))

    @router.post("/runs/{key:path}/delete")
    def delete(key: str) -> Response:
        _delete(studio, key)
        return to("/runs")


def _delete(studio: Studio, key: str) -> None:
    """A run with all that was made of it, and the job that asked for it. Raises NotAllowed while that is not over."""
    job = None if "/" in key else job_of(studio, key)
    if job and job.state not in ENDED:
        raise NotAllowed(f"This training is {words_of(job.state)}; cancel it, and delete it then")
    if run_of(studio, key):
        row = row_existing(studio, key)
        folder = folder_of(row.run)
        if read_versions(folder).stages.get(PRODUCTION) == row.run.id:
            raise NotAllowed("This run is in production; take it out of production, or put another one there, first")
        remove(folder, row.run.id, force=row.current)
        exports.forget(studio, row.run)
    if job:
        cleaning.delete_job(studio.store, job.id)
        studio.tail.wake(job.id)


def _asking(studio: Studio, kind: str) -> Callable[[str], Response]:
    def ask(key: str) -> Response:
        write_request(existing(studio, key), kind)
        return to(f"{address(key)}?asked={kind}")

    return ask
