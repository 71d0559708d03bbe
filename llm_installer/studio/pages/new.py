"""The pages before a training: a file is given, what is in it is shown, and what training on it would be."""

from __future__ import annotations

import os
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from llm_installer.core.errors import DataError, UsageError
from llm_installer.install.installed import list_models
from llm_installer.studio import foresight, insight
from llm_installer.studio.context import Studio
from llm_installer.studio.insight import Values
from llm_installer.studio.options import checked
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.pages.models import installed_names
from llm_installer.studio.store import files, jobs
from llm_installer.studio.store.jobs import NewJob
from llm_installer.studio.store.tables import File

_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8})?\.[A-Za-z0-9]{1,8}\Z")
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_OWN = ("model", "prompts")
"""Fields of the form that are no options of `train`."""
KEPT = 64
"""Answers that are kept, so that a page that is opened again need not wait."""
SHOWN = 8


@dataclass
class Known:
    """What was found out about files, models and options; only to be quick."""

    answers: OrderedDict[str, Values] = field(default_factory=OrderedDict)
    lock: Lock = field(default_factory=Lock)
    busy: dict[str, Lock] = field(default_factory=dict)

    def once(self, make: Callable[[], Values], *key: object) -> Values:
        """What is known, else what `make` finds, which several who ask at the same time wait for."""
        with self.lock:
            alone = self.busy.setdefault(repr(key), Lock())
        with alone:
            return self.get(*key) or self.put(make(), *key)

    def get(self, *key: object) -> Values | None:
        """What is known."""
        with self.lock:
            return self.answers.get(repr(key))

    def put(self, found: Values, *key: object) -> Values:
        """Keep an answer, unless it is an error, which may be over by the next time."""
        if "error" not in found:
            with self.lock:
                self.answers[repr(key)] = found
                while len(self.answers) > KEPT:
                    self.answers.popitem(last=False)
        return found


@dataclass(frozen=True)
class Asked:
    """A file, a model and options: what a plan is made for."""

    file: File
    place: Path
    model: str
    options: dict[str, str]
    prompts: str = ""


def router_of(studio: Studio) -> APIRouter:
    """The routes of these pages."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    known = Known()

    @router.get("/new")
    def new(model: str = "") -> Response:
        with studio.store.reading() as session:
            before = files.listed(session, most=10)
        values = {"models": [one for one in list_models() if one.complete], "files": before, "pasted": ""}
        return drawn("new.html", here="New training", chosen=model, **values)

    @router.post("/new")
    async def give(request: Request) -> Response:
        async with request.form(max_files=1, max_fields=4, max_part_size=64 << 20) as form:
            kept = await run_in_threadpool(_keep, studio, form)
        return to(f"/new/{kept.id}?{urlencode({'model': str(form.get('model', ''))})}")

    @router.get("/new/{file_id}")
    def look(request: Request, file_id: str, model: str = "") -> Response:
        asked = _asked(studio, file_id, request.query_params)
        query = "".join(f"&{quote(name)}={quote(value)}" for name, value in asked.options.items())
        models = [one for one in list_models() if one.complete]
        values = {"file": asked.file, "models": models, "model": asked.model, "query": query}
        return drawn("new_file.html", here="New training", **values)

    @router.get("/new/{file_id}/data")
    def data(file_id: str) -> Response:
        place = _asked(studio, file_id, {}).place
        return drawn("data.html", found=known.once(lambda: insight.dataset(place), "data", file_id))

    @router.get("/new/{file_id}/rows")
    def rows(request: Request, file_id: str) -> Response:
        return _drawn_rows(known, _asked(studio, file_id, request.query_params))

    @router.get("/new/{file_id}/plan")
    def plan(request: Request, file_id: str) -> Response:
        return _drawn_plan(studio, known, _asked(studio, file_id, request.query_params))

    @router.post("/new/{file_id}/plan")
    async def plan_again(request: Request, file_id: str) -> Response:
        form = _texts(await request.form())
        return await run_in_threadpool(lambda: _drawn_plan(studio, known, _asked(studio, file_id, form)))

    @router.post("/new/{file_id}/time")
    async def time(request: Request, file_id: str) -> Response:
        form = _texts(await request.form())
        return await run_in_threadpool(lambda: _drawn_time(studio, known, _asked(studio, file_id, form)))

    @router.post("/new/{file_id}/start")
    async def start(request: Request, file_id: str) -> Response:
        form = _texts(await request.form())
        asked = await run_in_threadpool(lambda: _asked(studio, file_id, form))
        job = await run_in_threadpool(lambda: _start(studio, known, asked))
        return to(f"/runs/{job}")

    return router


def _keep(studio: Studio, form: FormData) -> File:
    """The file that was sent, or the text that was pasted, as a file of the store."""
    sent, text = form.get("file"), str(form.get("text") or "")
    received = files.receiving(studio.folder)
    try:
        if isinstance(sent, UploadFile) and sent.filename:
            with received.open("wb") as out:
                shutil.copyfileobj(sent.file, out, 1 << 20)
            name = sent.filename
        elif text.strip():
            received.write_text(text, encoding="utf-8", errors="replace")
            name = f"pasted{_kind(text)}"
        else:
            raise DataError("There is nothing to look at yet; choose a file, or paste some examples")
        return files.keep(studio.store, studio.folder, received, name)
    finally:
        received.unlink(missing_ok=True)


def _kind(text: str) -> str:
    """What a pasted text is, by its first line."""
    first = text.strip().partition("\n")[0].strip()
    if first.startswith("["):
        return ".json"
    if first.startswith("{"):
        return ".jsonl" if first.endswith("}") else ".json"
    return ".tsv" if "\t" in first else ".csv" if "," in first and len(first) < 200 else ".txt"


def _texts(form: FormData) -> dict[str, str]:
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _asked(studio: Studio, file_id: str, given: Mapping[str, str]) -> Asked:
    """What a page is about. Raises Unknown for a file that is not there, UsageError for a model that is not."""
    with studio.store.reading() as session:
        file = files.find(session, file_id)
    names = installed_names()
    model = given.get("model") or (names[0] if names else "")
    if model not in names:
        raise UsageError(f"The model {model!r} is not installed; choose another, or install it first")
    own = {name: value.strip() for name, value in given.items() if name not in _OWN and value.strip()}
    if bad := next((name for name in own if not re.fullmatch(r"[a-z_0-9]{1,40}", name)), None):
        raise UsageError(f"There is no option {bad!r}")
    return Asked(file, named(studio.folder, file), model, own, given.get("prompts", "").strip())


def named(folder: Path, file: File) -> Path:
    """A file of the store with an ending that says what it is, and no other part of its name: that may be anything."""
    place = folder / "looked-at" / file.id / f"data{ending(file.name)}"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(files.path_of(folder, file.id), place)
        except FileExistsError:
            pass
        except OSError:  # a disk without links
            place.symlink_to(files.path_of(folder, file.id))
    return place


def ending(name: str) -> str:
    """What the name of a file says of its content: `.csv`, `.jsonl.gz`, or nothing."""
    found = _SUFFIX.search(name)
    if found is None:
        return ""
    last = found[0].lower()
    return last if last.endswith(_PACKED) else f".{last.rpartition('.')[2]}"


def _drawn_rows(known: Known, asked: Asked) -> Response:
    """Rows as tokens: from the plan, and where there is none, from the data alone."""
    found, data = _plan(known, asked), None
    if isinstance(found.get("data"), dict):
        data = {**found["data"], "shown": found.get("shown", [])}  # type: ignore[dict-item]
    else:
        alone = known.once(lambda: insight.dataset(asked.place, asked.model, SHOWN), "rows", asked.file.id, asked.model)
        data = alone if "error" not in alone else None
    return drawn("rows.html", found=data, error="" if data else found.get("error", ""), **_skipped(data or {}))


def _skipped(found: Mapping[str, object]) -> dict[str, object]:
    """Rows that are skipped when they are encoded, and those that are learned only in part."""
    tokens = found.get("tokens")
    rows = tokens.get("skipped", []) if isinstance(tokens, dict) else []
    return {"whole": [row for row in rows if not row["partly"]], "partly": [row for row in rows if row["partly"]]}


def _plan(known: Known, asked: Asked) -> Values:
    options = {"show": SHOWN, **asked.options}
    key = ("plan", asked.file.id, asked.model, sorted(asked.options.items()))
    return known.once(lambda: insight.plan(asked.place, asked.model, options), *key)


def _drawn_plan(studio: Studio, known: Known, asked: Asked) -> Response:
    found = _plan(known, asked)
    given = {"found": found, "file": asked.file, "model": asked.model, "given": asked.options}
    seen = SimpleNamespace(names=[])
    return drawn("plan.html", **given, prompts=asked.prompts, time=_known_time(studio, known, asked), seen=seen)


def _known_time(studio: Studio, known: Known, asked: Asked) -> Values | None:
    found = known.get("time", asked.file.id, asked.model, sorted(asked.options.items()))
    return foresight.corrected(studio, found) if found else None


def _drawn_time(studio: Studio, known: Known, asked: Asked) -> Response:
    if (time := _known_time(studio, known, asked)) is None:
        found = insight.plan(asked.place, asked.model, asked.options, timed=True)
        time = {"error": found["error"]} if "error" in found else _timed(found)
        known.put(time, "time", asked.file.id, asked.model, sorted(asked.options.items()))
        time = time if "error" in time else foresight.corrected(studio, time)
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
    predicted = foresight.predicted(found, _known_time(studio, known, asked))
    new = NewJob(model=asked.model, file_id=asked.file.id, options=options, predicted=predicted)
    job, _ = jobs.create(studio.store, new)
    return job.id


def _prompts(studio: Studio, asked: Asked) -> Path:
    """The questions as a file, one a line."""
    place = asked.place.with_name("questions.txt")
    lines = [line.strip() for line in asked.prompts.splitlines() if line.strip()]
    place.write_text("\n".join(lines[:20]) + "\n", encoding="utf-8", errors="replace")
    return place
