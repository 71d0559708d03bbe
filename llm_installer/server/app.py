"""The routes of a server, and every refusal in the shape that OpenAI's clients read."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from llm_installer.core.version import __version__
from llm_installer.server.catalogue import Entry
from llm_installer.server.fields import CHAT, COMPLETION, document
from llm_installer.server.guard import Guard, answered
from llm_installer.server.hosts import Host
from llm_installer.server.metrics import metrics
from llm_installer.server.page.mount import add_page
from llm_installer.server.problems import Problem, encoded, fault, invalid
from llm_installer.server.service import Service

INSTEAD = {
    "/v1/responses": "The Responses API is not served here; use /v1/chat/completions (client.chat.completions.create)",
    "/v1/embeddings": "These models make no embeddings; they answer to /v1/chat/completions and /v1/completions",
}
"""What clients ask for that is not here, and what to use."""
METHODS = ["GET", "POST", "DELETE"]
_CODES = {404: "not_found", 405: "method_not_allowed"}


def app_of(service: Service) -> ASGIApp:
    """The application: routes behind the guard."""
    app = FastAPI(title="LLM Installer", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    _models(app, service)
    app.post("/v1/chat/completions", openapi_extra=document(CHAT, "messages"))(service.chat)
    app.post("/v1/completions", openapi_extra=document(COMPLETION, "prompt"))(service.completion)
    for path, words in INSTEAD.items():
        _refused(app, path, words)
    _watching(app, service)
    _problems(app)
    free = add_page(app, {host.name: host.catalogue.rows_file for host in service.hosts.all})
    return Guard(app, service.settings, free)


def _models(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models")
    async def models() -> Response:
        """Everything that is served; runs that are new on the disk are loaded."""
        found = await asyncio.to_thread(service.hosts.entries)
        data = [_model(host, entry) for host, entry in found]
        return _json({"object": "list", "data": data})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """One of them."""
        return _json(_model(*await asyncio.to_thread(service.hosts.find, name)))


def _model(host: Host, entry: Entry) -> dict[str, object]:
    """A model as OpenAI's API has it, with `root` and `parent` as in vLLM; the rest is this program's own."""
    encoder = entry.voice.encoder
    return {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": "llm-installer",
        "root": entry.root,
        "parent": None if entry.id == host.name else host.name,
        "max_model_len": host.engine.positions,
        "style": entry.voice.style,
        "images": encoder.vision is not None,
        "score": entry.words,
        "base_loss": entry.base_loss,
        "best_loss": entry.best_loss,
    }


def _refused(app: FastAPI, path: str, words: str) -> None:
    async def refused(request: Request) -> Response:
        raise invalid(words, code="unsupported_endpoint")

    app.add_api_route(path, refused, methods=METHODS, include_in_schema=False)


def _watching(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> Response:
        """200 while the engines answer."""
        fault = service.hosts.fault
        if not fault:
            return _json({"status": "ok"})
        return Response(encoded({"status": "ended", "fault": fault}), 503, media_type="application/json")

    @app.get("/metrics")
    async def measured() -> Response:
        """What it does, for Prometheus."""
        return PlainTextResponse(metrics(service.hosts.all), media_type="text/plain; version=0.0.4; charset=utf-8")


def _problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return answered(error)

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        words = f"{request.method} {request.url.path} is not something that this server does: {error.detail}"
        return answered(
            Problem(
                error.status_code,
                words,
                code=_CODES.get(error.status_code, "invalid_request"),
                headers=error.headers or {},
            )
        )

    @app.exception_handler(Exception)
    async def mistake(request: Request, error: Exception) -> Response:
        return answered(fault("This server made a mistake; it has said more where it was started"))


def _json(value: object) -> Response:
    return Response(encoded(value), media_type="application/json")
