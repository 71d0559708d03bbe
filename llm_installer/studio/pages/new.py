"""The pages before a training: a file is given, what is in it is shown, and what training on it would be."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from llm_installer.core.errors import DataError
from llm_installer.install.installed import list_models
from llm_installer.studio import foresight, insight
from llm_installer.studio.api.receiving import form_of
from llm_installer.studio.context import Studio
from llm_installer.studio.insight import Values
from llm_installer.studio.options import checked
from llm_installer.studio.pages import fetching
from llm_installer.studio.pages.asked import Asked, Known, asked_of, given, in_its_name, keep
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.pages.grouped import FILE_FIELDS, groups, keys_of, of_file, too_few
from llm_installer.studio.pages.prices import costs, read_prices
from llm_installer.studio.store import files, jobs
from llm_installer.studio.store.jobs import NewJob

SHOWN = 8
"""Rows that are shown token by token."""
LISTED = 50
"""Files from before."""


def router_of(studio: Studio) -> APIRouter:
    """The routes of these pages."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    known = Known()

    @router.get("/new")
    def new(model: str = "") -> Response:
        with studio.store.reading() as session:
            before = files.listed(session, files.Wanted(most=LISTED))
        values = {"models": [one for one in list_models() if one.complete], "files": before, "pasted": ""}
        values["fetching"] = fetching.running(studio)
        return drawn("new.html", here="New training", chosen=model, **values)

    @router.post("/new")
    async def give(request: Request) -> Response:
        async with form_of(studio, request, files=1, fields=5, field=64 << 20) as form:
            model = str(form.get("model", ""))
            if (dataset := str(form.get("dataset") or "").strip()) and not given(form):
                return await run_in_threadpool(lambda: fetching.begun(studio, dataset, model))
            kept = await run_in_threadpool(keep, studio, form)
        return to(f"/new/{kept.id}?{urlencode({'model': model})}")

    @router.get("/new/{file_id}")
    def look(request: Request, file_id: str, model: str = "") -> Response:
        asked = asked_of(studio, file_id, request.query_params)
        query = "".join(f"&{quote(name)}={quote(value)}" for name, value in asked.options.items())
        models = [one for one in list_models() if one.complete]
        values = {"file": asked.file, "models": models, "model": asked.model, "query": query}
        return drawn("new_file.html", here="New training", **values)

    @router.get("/new/{file_id}/data")
    def data(request: Request, file_id: str) -> Response:
        asked = asked_of(studio, file_id, request.query_params)
        options = of_file(asked.options)
        key = ("data", file_id, sorted(options.items()))
        found = known.once(lambda: in_its_name(insight.dataset(asked.place, options=options), asked), *key)
        return drawn("data.html", found=found, keys=keys_of(found.get("error")))

    @router.get("/new/{file_id}/rows")
    def rows(request: Request, file_id: str) -> Response:
        return _drawn_rows(known, asked_of(studio, file_id, request.query_params))

    _beside(router, studio)
    _planning(router, studio, known)
    return router


def _beside(router: APIRouter, studio: Studio) -> None:
    @router.post("/new/warm", status_code=204)
    def warm() -> None:
        """Somebody is about to give a file: what looks at it gets ready."""
        with suppress(OSError):
            insight.WARM.start()

    @router.post("/new/{file_id}/delete")
    def delete(file_id: str) -> Response:
        files.remove(studio.store, studio.folder, file_id)
        return to("/new")


def _planning(router: APIRouter, studio: Studio, known: Known) -> None:
    @router.get("/new/{file_id}/plan")
    def plan(request: Request, file_id: str) -> Response:
        return _drawn_plan(studio, known, asked_of(studio, file_id, request.query_params))

    @router.post("/new/{file_id}/plan")
    async def plan_again(request: Request, file_id: str) -> Response:
        form = _texts(await request.form())
        answer = await run_in_threadpool(lambda: _drawn_plan(studio, known, asked_of(studio, file_id, form)))
        answer.headers["HX-Trigger"] = "planned"  # what stands above the plan follows it
        return answer

    @router.post("/new/{file_id}/time")
    async def time(request: Request, file_id: str) -> Response:
        form = _texts(await request.form())
        return await run_in_threadpool(lambda: _drawn_time(studio, known, asked_of(studio, file_id, form)))

    @router.post("/new/{file_id}/start")
    async def start(request: Request, file_id: str) -> Response:
        form = _texts(await request.form())
        asked = await run_in_threadpool(lambda: asked_of(studio, file_id, form))
        job = await run_in_threadpool(lambda: _start(studio, known, asked))
        return to(f"/runs/{job}")


def _texts(form: FormData) -> dict[str, str]:
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _drawn_rows(known: Known, asked: Asked) -> Response:
    """Rows as tokens: from the plan, and where there is none, from the data alone; why there are none says the plan."""
    found, data = _plan(known, asked), None
    if isinstance(found.get("data"), dict):
        data = {**found["data"], "shown": found.get("shown", [])}  # type: ignore[dict-item]
    else:
        options = of_file(asked.options)
        key = ("rows", asked.file.id, asked.model, sorted(options.items()))
        alone = known.once(lambda: insight.dataset(asked.place, asked.model, SHOWN, options), *key)
        data = alone if "error" not in alone else None
    return drawn("rows.html", found=data, **_skipped(data or {}))


def _skipped(found: Mapping[str, object]) -> dict[str, object]:
    """Rows that are skipped when they are encoded, and those that are learned only in part."""
    tokens = found.get("tokens")
    rows = tokens.get("skipped", []) if isinstance(tokens, dict) else []
    return {"whole": [row for row in rows if not row["partly"]], "partly": [row for row in rows if row["partly"]]}


def _plan(known: Known, asked: Asked) -> Values:
    options = {"show": SHOWN, **asked.options}
    key = ("plan", asked.file.id, asked.model, sorted(asked.options.items()))
    return known.once(lambda: in_its_name(insight.plan(asked.place, asked.model, options), asked), *key)


def _drawn_plan(studio: Studio, known: Known, asked: Asked) -> Response:
    found = _plan(known, asked)
    rows = found.get("plan")
    values: dict[str, object] = {
        "found": found,
        "groups": groups(rows) if isinstance(rows, list) else [],
        "few": too_few(found.get("data")),
        "costs": costs(found, read_prices(studio.folder)),
        "fields": FILE_FIELDS,
        "keys": keys_of(found.get("error")),
        "file": asked.file,
        "model": asked.model,
        "given": asked.options,
        "prompts": asked.prompts,
        "time": _known_time(known, asked),
        "seen": SimpleNamespace(names=[name for name, *_ in FILE_FIELDS]),
    }
    return drawn("plan.html", **values)


def _known_time(known: Known, asked: Asked) -> Values | None:
    return known.get("time", asked.file.id, asked.model, sorted(asked.options.items()))


def _drawn_time(studio: Studio, known: Known, asked: Asked) -> Response:
    if (time := _known_time(known, asked)) is None:
        found = insight.plan(asked.place, asked.model, asked.options, timed=True)
        time = {"error": found["error"]} if "error" in found else _timed(found)
        known.put(time, "time", asked.file.id, asked.model, sorted(asked.options.items()))
    return drawn("time.html", time=time)


def _timed(found: Values) -> Values:
    time = found.get("time")
    return time if isinstance(time, dict) else {"error": "How long this takes is not known."}


def _start(studio: Studio, known: Known, asked: Asked) -> str:
    """The id of a new job. Raises DataError where there is no plan for it."""
    found = _plan(known, asked)
    if "error" in found:
        raise DataError(str(found["error"]))
    options = checked(asked.options)
    if asked.prompts:
        options["eval_prompts"] = str(_prompts(studio, asked))
    predicted = foresight.predicted(found, _known_time(known, asked))
    new = NewJob(model=asked.model, file_id=asked.file.id, options=options, predicted=predicted)
    job, _ = jobs.create(studio.store, new)
    return job.id


def _prompts(studio: Studio, asked: Asked) -> Path:
    """The questions as a file, one a line; each job keeps its own, whatever is asked of the next one."""
    lines = [line.strip() for line in asked.prompts.splitlines() if line.strip()]
    content = ("\n".join(lines[:20]) + "\n").encode("utf-8", "replace")
    place = asked.place.with_name(f"questions-{sha256(content).hexdigest()[:16]}.txt")
    place.write_bytes(content)
    return place
