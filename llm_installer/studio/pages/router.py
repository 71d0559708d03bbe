"""All pages and their files, as one router."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response

from llm_installer.server.page import mount
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import chat, colab, exports, fetching, models, new, registry, runs, settings
from llm_installer.studio.pages.drawing import HERE, to

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
SHARED = ("markdown.js", "inline.js", "code.js", "dom.js")
"""Files of the chat page that reports are drawn with."""


def router_of(studio: Studio) -> APIRouter:
    """The pages."""
    router = APIRouter()
    found = static()

    @router.get("/", include_in_schema=False)
    def first() -> Response:
        return to("/models")

    @router.get("/static/{name:path}", include_in_schema=False)
    def file(name: str) -> Response:
        if name not in found:
            return Response("There is no such file.", 404, media_type="text/plain")
        kind, content = found[name]
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    for page in (models, fetching, new, exports, registry, runs, colab, chat, settings):
        router.include_router(page.router_of(studio))
    return router


def static() -> dict[str, tuple[str, bytes]]:
    """(kind, content) of each file by its name; there are few, and nothing else can be asked for."""
    root = HERE / "static"
    files = {str(file.relative_to(root)): file for file in root.rglob("*") if file.suffix in KINDS}
    files |= {f"chat/{name}": Path(mount.__file__).parent / name for name in SHARED}
    return {name: (KINDS[file.suffix], file.read_bytes()) for name, file in files.items()}
