"""The page of the models: what is installed, what could be, and whether it would run here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Form, Response

from llm_installer.core.errors import UsageError
from llm_installer.core.home import models_dir
from llm_installer.install.installed import Installed, list_models
from llm_installer.studio import insight
from llm_installer.studio.access.visible import only_own
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import children
from llm_installer.studio.pages.children import Child
from llm_installer.studio.pages.curated import CURATED, Curated
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.store.acting import owner
from llm_installer.studio.store.refusals import NotAllowed

_NAME = re.compile(r"tiny|[A-Za-z0-9][\w.-]{0,95}/[\w-][\w.-]{0,95}")


@dataclass(frozen=True)
class Installing:
    """An installation, as the page shows it."""

    model: str
    running: bool
    failed: bool
    line: str
    share: int | None
    own: bool = True
    """Whether whoever looks may stop it."""


@dataclass(frozen=True)
class Row:
    """A row of the curated list."""

    name: str
    id: str
    size: str
    why: str
    takes: str
    gated: bool
    installed: bool


def router_of(studio: Studio) -> APIRouter:
    """The routes of this page."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    folder = studio.folder / children.INSTALLS

    @router.get("/models")
    def models(model: str = "", check: str = "") -> Response:
        wanted = checked(model) if model and check else ""
        found = list_models()
        values = {"models": found, "installing": installing(folder), "curated": _rows(found), "wanted": wanted}
        return drawn("models.html", here="Models", **values)

    @router.get("/models/check")
    def check(model: str) -> Response:
        name = checked(model)
        found = insight.asked(["check", name, "--json"], _empty(studio.folder), insight.ENCODING)
        return drawn("verdict.html", model=name, found=found, installed=name.replace("/", "_") in installed_names())

    @router.get("/models/installing")
    def progress() -> Response:
        found = installing(folder)
        answer = drawn("installing.html", installing=found)
        if any(not one.running and not one.failed for one in found):
            answer.headers["HX-Refresh"] = "true"  # what was installed is in the list now
        return answer

    @router.post("/models/install")
    def install(model: str = Form(max_length=200)) -> Response:
        name = checked(model)
        place = folder / name.replace("/", "_")
        if not any(one.place == place and one.alive for one in children.known(folder)):
            children.begin(name, place, ["install", name], _empty(studio.folder))
        return to("/models")

    @router.post("/models/install/stop")
    def stop(model: str = Form(max_length=200)) -> Response:
        child = Child(model, folder / checked(model).replace("/", "_"))
        if not own(child):
            raise NotAllowed(f"Somebody else installs {model}; ask them, or an administrator")
        child.end()
        child.forget()
        return to("/models")

    return router


def checked(model: str) -> str:
    """The name of a hub model, or `tiny`. Raises UsageError for anything else, such as a path or an address."""
    name = model.strip()
    if not _NAME.fullmatch(name) or ".." in name:
        raise UsageError(f"{name!r} is not a name on the hub; such names are owner/name, for example Qwen/Qwen3-0.6B")
    return name


def own(child: Child) -> bool:
    """Whether whoever asks may end an installation: all see it, and it is not everybody's to end."""
    return not only_own() or child.owner == owner()


def installed_names() -> list[str]:
    """Of all models that are complete."""
    return [one.name for one in list_models() if one.complete]


def installing(folder: Path) -> list[Installing]:
    """What is being installed, and what has just failed."""
    found = []
    for child in children.known(folder):
        code, lines = child.code, child.lines
        if code == 0 and (models_dir() / child.place.name / "model_info.json").is_file():
            child.forget()
            found.append(Installing(child.name, False, False, "", 100))
            continue
        failed = code not in (None, 0)
        line = next((one.removeprefix("Error: ") for one in reversed(lines) if "Error" in one), "") if failed else ""
        shown = line or (lines[-1] if lines else "")
        found.append(Installing(child.name, code is None, failed, shown, children.share_of(lines), own(child)))
    return found


def _rows(found: list[Installed]) -> list[Row]:
    known = {one.id for one in found} | {one.name for one in found}
    return [_row(one, known) for one in CURATED]


def _row(one: Curated, known: set[str]) -> Row:
    return Row(
        one.name, one.id, one.size, one.why, one.takes, one.gated, one.id in known or one.id.replace("/", "_") in known
    )


def _empty(folder: Path) -> Path:
    """A folder with nothing in it, so that a name is never a path."""
    found = folder / "empty"
    found.mkdir(parents=True, exist_ok=True)
    return found
