"""Versions and stages on the pages of runs: which run is `tiny/3`, and which is the candidate or in production."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Response

from llm_installer.core.home import model_names, models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.runs.listing import list_runs, use
from llm_installer.runs.versions import CANDIDATE, PRODUCTION, demote, promote, read_versions, roll_back
from llm_installer.studio.access.visible import refuse_run
from llm_installer.studio.context import Studio
from llm_installer.studio.pages.drawing import PageRoute, to
from llm_installer.studio.pages.keys import address, existing, folder_of
from llm_installer.studio.pages.stages import version, versions_of
from llm_installer.studio.store.refusals import NotAllowed, Unknown


@dataclass(frozen=True)
class InStage:
    """What is in production of a model, as the list shows it."""

    model: str
    version: str
    run: str
    before: str
    """The version that a roll back would put there; empty where there is none."""


def in_production(studio: Studio) -> list[InStage]:
    """Of every model that has something in production that whoever asks may see."""
    found = []
    for name in model_names():
        folder = ModelDir(models_dir() / name)
        known = versions_of(folder, list_runs(folder))
        if (run := known.stages.get(PRODUCTION)) and _seen(studio, name, run):
            found.append(InStage(name, version(folder, known, run), run, version(folder, known, known.before)))
    return found


def _seen(studio: Studio, model: str, run: str) -> bool:
    try:
        refuse_run(studio, f"{model}/{run}")
    except Unknown:
        return False
    return True


def router_of(studio: Studio) -> APIRouter:
    """The routes that change stages."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)

    @router.post("/runs/{key:path}/promote/{stage}")
    def promoted(key: str, stage: str) -> Response:
        run = existing(studio, key)
        folder = folder_of(run)
        known = versions_of(folder, list_runs(folder))
        if (now := known.stages.get(stage)) and not _seen(studio, folder.root.name, now):
            raise NotAllowed("A run of somebody else is there; ask them, or an administrator, to take it out")
        promote(folder, run.id, stage)
        if stage == PRODUCTION:
            use(folder, run.id)
        return to(f"{address(key)}?asked={stage}")

    @router.post("/runs/{key:path}/demote")
    def demoted(key: str) -> Response:
        run = existing(studio, key)
        demote(folder_of(run), run.id)
        return to(f"{address(key)}?asked=demoted")

    @router.post("/models/{name}/rollback")
    def rolled_back(name: str) -> Response:
        if name not in model_names():
            raise Unknown(f"There is no model {name!r}")
        folder = ModelDir(models_dir() / name)
        known = read_versions(folder)
        for one in (known.stages.get(PRODUCTION), known.before):
            if one:
                refuse_run(studio, f"{name}/{one}")
        run = roll_back(folder)
        use(folder, run)
        return to(f"/runs?back={quote(name)}")

    return router


SAID = {
    CANDIDATE: "It is the candidate now.",
    PRODUCTION: "It is in production now: whoever asks this model for “production” gets it from now on.",
    "demoted": "It has no stage any more.",
}
"""What is said once a stage was changed."""
