"""Files and forms that are sent: read from the request, and kept in the data folder before anything looks at them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message, Receive

from llm_installer.server.problems import Problem, invalid
from llm_installer.studio.context import Studio
from llm_installer.studio.store import files
from llm_installer.studio.store.tables import File

FIELD = 64 << 10
"""Bytes of a field that is no file."""
IN_MEMORY = 1 << 20
"""Bytes of a body that go to no disk before something keeps them."""


@asynccontextmanager
async def form_of(
    studio: Studio, request: Request, files: int = 4, fields: int = 64, field: int = FIELD
) -> AsyncIterator[FormData]:
    """The form of a request; its files are gone afterwards. Raises Problem where they would fill the disk."""
    spared = Request(request.scope, _spared(studio, request.receive))
    async with spared.form(max_files=files, max_fields=fields, max_part_size=field) as form:
        yield form


def _spared(studio: Studio, receive: Receive) -> Receive:
    """What reads a body no further than the disk has room for it: not every body says before how long it is."""
    count = 0

    async def spared() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > IN_MEMORY:
            room(studio, 0)
        return message

    return spared


def form_said(needed: Mapping[str, str], example: Mapping[str, str], **others: str) -> dict[str, object]:
    """What OpenAPI says of a form: its fields, each with what it is; "file" is one, everything else a text. With the
    values of `example` it is a good one."""
    fields = {
        name: {"type": "string", **({"format": "binary"} if said == "file" else {"description": said})}
        for name, said in {**needed, **others}.items()
    }
    schema = {"type": "object", "properties": fields, "required": [*needed]}
    form = {"schema": schema, "example": dict(example)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": form}}}


def text_of(form: FormData, name: str, otherwise: str | None = None) -> str:
    """A field. Raises Problem where it is missing and nothing stands for it, or is a file."""
    found = form.get(name, otherwise)
    if not isinstance(found, str):
        raise invalid(f"The form lacks the field {name!r}" if found is None else f"{name!r} must be text", name)
    return found.strip()


async def kept(studio: Studio, form: FormData, name: str, purpose: str = "fine-tune") -> File:
    """The file in a field of a form, kept. Raises Problem where there is none, it is empty, or the disk is full."""
    found = form.get(name)
    if not isinstance(found, UploadFile):
        raise invalid(f"The form lacks the file {name!r}", name)
    if not found.size:
        raise invalid(f"The file {name!r} is empty", name)
    return await run_in_threadpool(_keep, studio, found, purpose)


def _keep(studio: Studio, found: UploadFile, purpose: str) -> File:
    room(studio, found.size or 0)
    place = files.receiving(studio.folder)
    try:
        _copy(found, place)
        return files.keep(studio.store, studio.folder, place, found.filename or "data", purpose)
    finally:
        place.unlink(missing_ok=True)


def _copy(found: UploadFile, place: Path) -> None:
    found.file.seek(0)
    with place.open("xb") as out:
        os.fchmod(out.fileno(), 0o600)
        shutil.copyfileobj(found.file, out, 1 << 20)


def room(studio: Studio, count: int) -> None:
    """Raise Problem where as many bytes would fill the part of the disk that the database keeps for itself."""
    if shutil.disk_usage(studio.folder).free - count < studio.settings.kept_back:
        raise full()


def full() -> Problem:
    """507."""
    words = "The disk of this server is full; delete files or jobs, and send it again"
    return Problem(507, words, "server_error", code="disk_full")
