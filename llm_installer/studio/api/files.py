"""/v1/files, as OpenAI's clients call it."""

from __future__ import annotations

import json
from typing import Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from llm_installer.server.problems import invalid
from llm_installer.studio.api.receiving import form_of, form_said, kept, text_of
from llm_installer.studio.context import Studio
from llm_installer.studio.plain import Json
from llm_installer.studio.store import files
from llm_installer.studio.store.files import Wanted
from llm_installer.studio.store.tables import File

PURPOSES = ("fine-tune",)
_ROW = {"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "Tiny"}]}
_EXAMPLE = {"file": json.dumps(_ROW) + "\n", "purpose": "fine-tune"}


def router_of(studio: Studio) -> APIRouter:
    """The routes below /v1/files."""
    router = APIRouter(prefix="/v1/files", tags=["files"])

    @router.post("", openapi_extra=form_said({"file": "file"}, _EXAMPLE, purpose="fine-tune"))
    async def create(request: Request) -> Json:
        """Upload a file for training."""
        async with form_of(studio, request) as form:
            purpose = text_of(form, "purpose", PURPOSES[0])
            if purpose not in PURPOSES:
                raise invalid(f"purpose must be {PURPOSES[0]}; that is all this server uses files for", "purpose")
            return file_json(await kept(studio, form, "file", purpose))

    @router.get("")
    def listed(
        purpose: str = "",
        limit: int = Query(100, ge=1, le=10_000),
        after: str = "",
        order: Literal["asc", "desc"] = "desc",
    ) -> Json:
        """Files, the newest first or, with `order` asc, the oldest; `after` is the id of the last one that is known."""
        with studio.store.reading() as session:
            found = files.listed(session, Wanted(purpose, limit + 1, after, oldest_first=order == "asc"))
        data = [file_json(file) for file in found[:limit]]
        ends = {"first_id": found[0].id, "last_id": data[-1]["id"]} if found else {"first_id": None, "last_id": None}
        return {"object": "list", "data": data, "has_more": len(found) > limit, **ends}

    @router.get("/{file_id}")
    def one(file_id: str) -> Json:
        """A file, without its content."""
        with studio.store.reading() as session:
            return file_json(files.find(session, file_id))

    @router.get("/{file_id}/content")
    def content(file_id: str) -> Response:
        """What is in a file."""
        with studio.store.reading() as session:
            found = files.find(session, file_id)
        place = files.content_of(studio.folder, found)
        return FileResponse(place, filename=found.name, media_type="application/octet-stream")

    @router.delete("/{file_id}")
    def delete(file_id: str) -> Json:
        """Delete a file that no job waits for."""
        files.remove(studio.store, studio.folder, file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    return router


def file_json(file: File) -> Json:
    """A file as OpenAI's API has it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at.timestamp()),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }
