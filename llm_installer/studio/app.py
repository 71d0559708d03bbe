"""The application: the routers of the APIs and pages, every refusal in one shape, the guard before all of it.

A part with routes of its own is one row of ROUTERS: a function of the Studio that returns an APIRouter.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from llm_installer.core.files import FULL
from llm_installer.core.version import __version__
from llm_installer.server.guard import answered
from llm_installer.server.problems import Problem, fault
from llm_installer.studio.access.gate import Gate
from llm_installer.studio.access.router import router_of as access
from llm_installer.studio.api import checkpoints, files, fine_tuning, jobs, seed, webhooks, workers
from llm_installer.studio.api.receiving import full
from llm_installer.studio.bodies import Slots
from llm_installer.studio.colab import routes as colab
from llm_installer.studio.context import Studio
from llm_installer.studio.guard import Guard
from llm_installer.studio.pages.missing import Heads, for_people, problem_page
from llm_installer.studio.pages.router import router_of as pages
from llm_installer.studio.store.refusals import Refused

ROUTERS: tuple[Callable[[Studio], APIRouter], ...] = (
    seed.router_of,
    jobs.router_of,
    workers.router_of,
    checkpoints.router_of,
    files.router_of,
    fine_tuning.router_of,
    webhooks.router_of,
    colab.router_of,
    pages,
    access,
)
NO_ROOM = ("disk is full", "No space left on device")
"""How SQLite and Postgres say that their disk is full."""
PAGES = {404: "There is no such page here", 405: "That address takes no such request"}
"""What people read where no route is."""
LEAST = 1 << 20
"""Bytes of free disk below which SQLite says other things, such as that it cannot open its file."""


def app_of(studio: Studio) -> ASGIApp:
    """The application of an open studio."""
    app = FastAPI(title="LLM Installer Studio", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        """200 while it answers."""
        return {"status": "ok", "version": __version__}

    for router_of in ROUTERS:
        app.include_router(router_of(studio))
    _problems(app)
    _mistakes(app, studio)
    inner = Slots(Heads(app))  # behind the gate: nobody takes a slot before it is known who they are
    return Guard(Gate(inner, studio) if studio.settings.people else inner, studio)


def _problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return _said(request, error)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return answered(Problem(error.status, str(error), code=error.code))

    @app.exception_handler(DataError)
    @app.exception_handler(UnicodeEncodeError)  # half a character, which no encoding knows
    async def not_to_be_kept(request: Request, error: Exception) -> Response:
        words = "Something in this request is no text or number that a database takes, such as a null character"
        return answered(Problem(400, words, code="invalid_request"))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        if for_people(request):
            return problem_page(request, 422, "Something was left out or cannot be read; go back and fill it in")
        first: dict[str, object] = next(iter(error.errors()), {})
        place = first.get("loc")
        where = ".".join(map(str, place[1:])) if isinstance(place, tuple) else ""
        words = str(first.get("msg", "it cannot be read"))
        return answered(Problem(422, f"{where}: {words}" if where else words, param=where, code="invalid_request"))

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        if for_people(request):
            words = PAGES.get(error.status_code, "The studio cannot read what was sent; go back, and send it again")
            return problem_page(request, error.status_code, words)
        if error.status_code not in PAGES:
            return answered(Problem(error.status_code, str(error.detail), code="invalid_request"))
        words = f"{request.method} {request.url.path} is not something that this server does: {error.detail}"
        return answered(Problem(error.status_code, words, code="not_found", headers=error.headers or {}))


def _said(request: Request, error: Problem) -> Response:
    return problem_page(request, error.status, error.message) if for_people(request) else answered(error)


def _mistakes(app: FastAPI, studio: Studio) -> None:
    @app.exception_handler(OSError)
    async def not_written(request: Request, error: OSError) -> Response:
        if error.errno not in FULL:
            raise error
        return _said(request, full())

    @app.exception_handler(OperationalError)
    async def not_kept(request: Request, error: OperationalError) -> Response:
        free = shutil.disk_usage(studio.folder).free
        if free > LEAST and not any(words in str(error.orig) for words in NO_ROOM):
            raise error
        return _said(request, full())

    @app.exception_handler(Exception)
    async def mistake(request: Request, error: Exception) -> Response:
        if for_people(request):
            return problem_page(request, 500, "The studio made a mistake; it has said more where it was started")
        return answered(fault("This server made a mistake; it has said more where it was started"))
