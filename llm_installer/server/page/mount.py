"""Puts the chat page into a service: its files under a strict policy, and the door for training rows."""

from __future__ import annotations

from html import escape
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from llm_installer.core.errors import DataError, InstallerError
from llm_installer.core.hints import script, typed
from llm_installer.server.page.rows import LARGEST, RowsFile, checked_row

HERE = Path(__file__).parent
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, nothing inline, and no text that is read as HTML."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI, model: str, rows_file: Path) -> None:
    """Serve the page at `/`, its files at `/page/NAME`, and take training rows at `POST /page/rows`.

    `model` is what the page calls itself; rows are appended to `rows_file`. Who may send them is decided by whatever
    checks the host and the key of every request, as for `/v1`.
    """
    files = {file.name: (KINDS[file.suffix], file.read_bytes()) for file in HERE.iterdir() if file.suffix in KINDS}
    kind, page = files.pop("index.html")
    first = page.replace(b"{model}", escape(model).encode())
    rows = RowsFile(rows_file)

    def index() -> Response:
        return Response(first, media_type=kind, headers=HEADERS)

    def part(name: str) -> Response:
        if name not in files:
            return refused(f"There is no {name} on this page.", 404)
        media_type, content = files[name]
        return Response(content, media_type=media_type, headers=HEADERS)

    async def save(request: Request) -> Response:
        if reason := foreign(request):
            return refused(reason, 403)
        body = await read(request)
        if body is None:
            return refused(f"A training row has at most {LARGEST >> 20} MB.", 413)
        try:
            count = await run_in_threadpool(rows.append, checked_row(body))
        except InstallerError as error:
            return refused(str(error), 400 if isinstance(error, DataError) else 507)
        answer = {"path": str(rows.path), "rows": count, "command": command(rows.path)}
        return JSONResponse(answer, headers=HEADERS)

    for path, methods, endpoint in (
        ("/", ["GET", "HEAD"], index),
        ("/page/{name}", ["GET", "HEAD"], part),
        ("/page/rows", ["POST"], save),
    ):
        app.add_api_route(path, endpoint, methods=methods, response_model=None, include_in_schema=False)


def command(rows: Path) -> str:
    """What to type to train on the rows: the script of the model directory that they lie in, where they do."""
    root = next((folder for folder in rows.parents[:2] if (folder / "train.sh").is_file()), None)
    return f"{script(root) if root else './train.sh'} --data {typed(rows)}"


def refused(message: str, status: int) -> Response:
    """An error in the shape of the API beside the page."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    return JSONResponse({"error": error}, status, headers=HEADERS)


def foreign(request: Request) -> str:
    """Why a request cannot have come from this page; empty where it can.

    A page from elsewhere cannot send JSON without asking first, which nobody here answers, and its browser says where
    it comes from.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return "Training rows are sent as application/json."
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    elsewhere = origin is not None and origin.partition("://")[2] != host
    if elsewhere or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "Training rows are taken from this server's own page only."
    return ""


async def read(request: Request) -> bytes | None:
    """The body; None where it is larger than a row may be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            return None
    return bytes(body)
