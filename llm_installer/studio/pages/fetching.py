"""A dataset of the hub as a file of the store: a command reads it there, and what can be trained on is kept."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from llm_installer.core.errors import UsageError
from llm_installer.core.text import size
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import children
from llm_installer.studio.pages.children import Child
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.pages.words import for_page
from llm_installer.studio.store import files
from llm_installer.studio.store.acting import owner
from llm_installer.studio.store.tables import File

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[\w-][\w.-]{0,95})?(?::[\w.+-]{1,80}){0,2}", re.ASCII)


@dataclass(frozen=True)
class Fetching:
    """One of them, as the page shows it."""

    name: str
    error: str = ""
    line: str = ""
    ready: bool = False
    """Whether all of it is there, and may become a file."""
    kept: str = ""
    """The id of the file that it has become."""


def router_of(studio: Studio) -> APIRouter:
    """The routes of it."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)

    @router.get("/new/hub")
    def look(dataset: str, model: str = "") -> Response:
        one = _fetching(studio, checked_dataset(dataset))
        if one.kept:
            return to(f"/new/{one.kept}?{urlencode({'model': model})}")
        return drawn("fetching.html", here="New training", one=one, model=model)

    @router.get("/new/hub/now")
    def now(dataset: str, model: str = "") -> Response:
        return drawn("fetched.html", one=_fetching(studio, checked_dataset(dataset)), model=model)

    @router.post("/new/hub/keep")
    def keep(request: Request, dataset: str = Form(max_length=300), model: str = Form("", max_length=300)) -> Response:
        name, known = checked_dataset(dataset), urlencode({"model": model})
        request.state.about = name
        one = _fetching(studio, name)
        if file_id := _keep(studio, name) if one.ready else one.kept:
            return to(f"/new/{file_id}?{known}")
        return to(f"/new/hub?{urlencode({'dataset': name})}&{known}")

    @router.post("/new/hub/stop")
    def stop(request: Request, dataset: str = Form(max_length=300)) -> Response:
        name = request.state.about = checked_dataset(dataset)
        child = child_of(studio, name)
        child.end()
        child.forget()
        _remove(place_of(studio, name))
        return to("/new")

    return router


def begun(studio: Studio, dataset: str, model: str) -> Response:
    """Begin to fetch a dataset, and go where its progress is. Raises UsageError."""
    name = checked_dataset(dataset)
    child = child_of(studio, name)
    if not child.alive:
        _begin(studio, name, child)
    return to(f"/new/hub?{urlencode({'dataset': name, 'model': model})}")


def running(studio: Studio) -> list[str]:
    """The names of datasets that are being fetched, or have been and wait to be looked at."""
    return [child.name for child in children.known(_folder(studio))]


def checked_dataset(text: str) -> str:
    """The name of a dataset on the hub, or its address there. Raises UsageError for anything else."""
    name = text.strip().removeprefix("https://huggingface.co/").removeprefix("datasets/").rstrip("/")
    if not _NAME.fullmatch(name) or ".." in name:
        raise UsageError(
            f"{text.strip()[:80]!r} is not a dataset of the hub; such names are owner/name, for example "
            "tatsu-lab/alpaca, or owner/name:split"
        )
    return name


def _fetching(studio: Studio, name: str) -> Fetching:
    """How far it is."""
    child, place = child_of(studio, name), place_of(studio, name)
    code, lines = child.code, child.lines
    if not child.pid[0]:
        if kept := _kept(studio, name):
            return Fetching(name, kept=kept)
        return Fetching(name, "It was stopped; begin again on the page New training")
    if code is None:
        return Fetching(name, line=lines[-1] if lines else "")
    if code != 0:
        said = next((line for line in reversed(lines) if line.startswith("Error")), "It ended without a word")
        return Fetching(name, for_page(said.removeprefix("Error: ")))
    try:
        count = place.stat().st_size
    except FileNotFoundError:
        return Fetching(
            name, line="It becomes a file, listed on the page New training; if it is not soon, begin again there"
        )
    if count > (most := studio.settings.upload_bytes):
        child.fail(f"It has more than {size(most)}, which is more than this studio takes")
        _remove(place)  # the disk is for what can be used
        return _fetching(studio, name)
    return Fetching(name, ready=True)


def _keep(studio: Studio, name: str) -> str:
    """Make a file of it. The file's id; empty where another request has taken the rows. Raises TooMuch, and it can be
    kept later then."""
    child, place, mine = child_of(studio, name), place_of(studio, name), files.receiving(studio.folder)
    then = child.pid

    def give_back() -> None:
        if child.pid == then:
            os.replace(mine, place)
        mine.unlink(missing_ok=True)  # whoever stopped it, or began again, wants these rows no more

    try:
        os.replace(place, mine)  # from now on nobody else has them
    except FileNotFoundError:
        return ""
    with ExitStack() as stack:
        stack.callback(give_back)
        os.utime(mine)  # or it is swept away as a day old
        file = files.keep(studio.store, studio.folder, mine, f"{name.replace('/', '_').replace(':', '_')}.jsonl")
        stack.pop_all()
    if child.pid == then:  # else the same name is being fetched again
        _note(studio, name).write_text(file.id, encoding="utf-8")
        child.forget()
        _remove(place)
    return file.id


def _kept(studio: Studio, name: str) -> str:
    """The id of the file that it has become, while that is there."""
    with suppress(OSError), studio.store.reading() as session:
        found = session.get(File, _note(studio, name).read_text(encoding="utf-8"))
        return found.id if found else ""
    return ""


def _begin(studio: Studio, name: str, child: Child) -> None:
    empty, place = studio.folder / "empty", place_of(studio, name)
    empty.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove(place)
    _note(studio, name).unlink(missing_ok=True)
    children.begin(name, child.place, ["data", name, f"--fix={place}"], empty)


def _remove(place: Path) -> None:
    """The file, that of its rows for validation, and what was left of earlier ones."""
    for pattern in (f"{place.stem}*", f".{place.stem}*.part"):
        for left in place.parent.glob(pattern):
            left.unlink(missing_ok=True)


def _folder(studio: Studio) -> Path:
    """Of the fetches of whoever asks."""
    return studio.folder / files.FETCHES / (owner() or "everyone")


def child_of(studio: Studio, name: str) -> Child:
    """The command that fetches a dataset."""
    return Child(name, _folder(studio) / sha256(name.encode()).hexdigest()[:24])


def place_of(studio: Studio, name: str) -> Path:
    """Where it writes what can be trained on."""
    return _folder(studio) / f"{sha256(name.encode()).hexdigest()[:24]}.rows.jsonl"


def _note(studio: Studio, name: str) -> Path:
    """Where it says which file it has become."""
    return _folder(studio) / f"{sha256(name.encode()).hexdigest()[:24]}{files.KEPT}"
