"""Puts the chat page into a service: its files under a strict policy, and the door for training rows."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from llm_installer.core.errors import DataError, InstallerError
from llm_installer.core.hints import script, typed
from llm_installer.server.guard import body_of
from llm_installer.server.page.rows import LARGEST, RowsFile, checked_row
from llm_installer.server.problems import Problem

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


def add_page(app: FastAPI, rows_files: Mapping[str, Path]) -> list[str]:
    """Serve the page at `/`, its files at `/page/NAME`, and take training rows at `POST /page/rows`. Returns the paths
    that anybody may ask for.

    `rows_files` says for each base by its name where rows are appended; a row is for that of `?model=`, else for the
    first. Who may send them is decided by the guard, which checks the host, the origin and the key of every request,
    as for `/v1`.
    """
    files = {file.name: (KINDS[file.suffix], file.read_bytes()) for file in HERE.iterdir() if file.suffix in KINDS}
    kind, page = files.pop("index.html")
    title, model = " and ".join(rows_files), next(iter(rows_files)) if len(rows_files) == 1 else ""
    first = page.replace(b"{title}", escape(title).encode()).replace(b"{model}", escape(model).encode())
    all_rows = {name: RowsFile(rows_files[name]) for name in sorted(rows_files, key=len)}

    def index() -> Response:
        return Response(first, media_type=kind, headers=HEADERS)

    def part(name: str) -> Response:
        if name not in files:
            return refused(f"There is no {name} on this page.", 404)
        media_type, content = files[name]
        return Response(content, media_type=media_type, headers=HEADERS)

    async def save(request: Request) -> Response:
        name = request.query_params.get("model", "")
        mine = [rows for base, rows in all_rows.items() if f"{name}:".startswith(f"{base}:")]
        rows = mine[-1] if mine else all_rows[next(iter(rows_files))]
        try:
            body = await body_of(request, LARGEST)
            count = await run_in_threadpool(rows.append, checked_row(body))
        except Problem as problem:
            return refused(f"A training row has at most {LARGEST >> 20} MB.", problem.status)
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
    return ["/", *(f"/page/{name}" for name in files)]


def command(rows: Path) -> str:
    """What to type to train on the rows: the script of the model directory that they lie in, where they do."""
    root = next((folder for folder in rows.parents[:2] if (folder / "train.sh").is_file()), None)
    return f"{script(root) if root else './train.sh'} --data {typed(rows)}"


def refused(message: str, status: int) -> Response:
    """An error in the shape of the API beside the page."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    return JSONResponse({"error": error}, status, headers=HEADERS)
