"""A dataset of the hub as a file of the store: a command reads it there, and what can be trained on is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Response

from llm_installer.core.errors import UsageError
from llm_installer.core.text import size
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import children
from llm_installer.studio.pages.children import Child
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.pages.words import for_page
from llm_installer.studio.store import files
from llm_installer.studio.store.acting import owner

FETCHES = "fetches"
"""The folder of the data folder with the files of such commands."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[\w-][\w.-]{0,95})?(?::[\w.+-]{1,80}){0,2}", re.ASCII)


@dataclass(frozen=True)
class Fetching:
    """One of them, as the page shows it."""

    name: str
    error: str = ""
    line: str = ""
    ready: bool = False
    """Whether all of it is there, and may become a file."""


def router_of(studio: Studio) -> APIRouter:
    """The routes of it."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    one_at_a_time = Lock()

    @router.get("/new/hub")
    def look(dataset: str, model: str = "") -> Response:
        one = _fetching(studio, checked_dataset(dataset))
        return drawn("fetching.html", here="New training", one=one, model=model)

    @router.get("/new/hub/now")
    def now(dataset: str, model: str = "") -> Response:
        return drawn("fetched.html", one=_fetching(studio, checked_dataset(dataset)), model=model)

    @router.post("/new/hub/keep")
    def keep(dataset: str = Form(max_length=300), model: str = Form("", max_length=300)) -> Response:
        name, known = checked_dataset(dataset), urlencode({"model": model})
        with one_at_a_time:  # the same page may be open twice
            if not _fetching(studio, name).ready:
                return to(f"/new/hub?{urlencode({'dataset': name})}&{known}")
            called = f"{name.replace('/', '_').replace(':', '_')}.jsonl"
            file = files.keep(studio.store, studio.folder, place_of(studio, name), called)
            child_of(studio, name).forget()
        return to(f"/new/{file.id}?{known}")

    @router.post("/new/hub/stop")
    def stop(dataset: str = Form(max_length=300)) -> Response:
        name = checked_dataset(dataset)
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
        return Fetching(name, "It was stopped; begin again on the page New training")
    if code is None:
        return Fetching(name, line=lines[-1] if lines else "")
    if code != 0 or not place.is_file():
        said = next((line for line in reversed(lines) if line.startswith("Error")), "It ended without a word")
        return Fetching(name, for_page(said.removeprefix("Error: ")))
    if place.stat().st_size > studio.settings.upload_bytes:
        most = size(studio.settings.upload_bytes)
        return Fetching(name, f"It has more than {most}, which is more than this studio takes")
    return Fetching(name, ready=True)


def _begin(studio: Studio, name: str, child: Child) -> None:
    empty, place = studio.folder / "empty", place_of(studio, name)
    empty.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove(place)
    children.begin(name, child.place, ["data", name, f"--fix={place}"], empty)


def _remove(place: Path) -> None:
    """The file, and what was left of earlier ones."""
    for left in place.parent.glob(f"{place.stem}*"):
        left.unlink(missing_ok=True)


def _folder(studio: Studio) -> Path:
    """Of the fetches of whoever asks."""
    return studio.folder / FETCHES / (owner() or "everyone")


def child_of(studio: Studio, name: str) -> Child:
    """The command that fetches a dataset."""
    return Child(name, _folder(studio) / sha256(name.encode()).hexdigest()[:24])


def place_of(studio: Studio, name: str) -> Path:
    """Where it writes what can be trained on."""
    return _folder(studio) / f"{sha256(name.encode()).hexdigest()[:24]}.rows.jsonl"
