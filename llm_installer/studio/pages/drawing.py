"""How a page is made of a template: what every template knows, and what a browser is told about it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TypeAlias

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from llm_installer.core.errors import InstallerError
from llm_installer.core.text import counted, size
from llm_installer.studio.access.forms import FormToken, form_token
from llm_installer.studio.access.who import WHO
from llm_installer.studio.pages.words import for_page, known_as, label
from llm_installer.studio.store.refusals import Refused

HERE = Path(__file__).parent
NAV = (
    ("Models", "/models", "box"),
    ("New training", "/new", "plus"),
    ("Runs", "/runs", "curve"),
    ("Chat", "/chat", "talk"),
    ("Settings", "/settings", "sliders"),
)
"""Name of a page, where it is, its picture."""
_PICTURES = {
    "person": "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5a7.5 7.5 0 0 1 15 0",
    "box": "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
    "plus": "M12 5v14M5 12h14",
    "curve": "M4 4v16h16M7 9c2 6 5 8 12 8",
    "talk": "M5 5h14a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-7l-5 4v-4H5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1z",
    "sliders": "M4 8h10M18 8h2M4 16h2M10 16h10M16 6v4M8 14v4",
    "file": "M7 3h7l4 4v14H7a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zM14 3v5h4M9 13h6M9 17h4",
}
Handler: TypeAlias = Callable[[Request], Coroutine[object, object, Response]]


def picture(name: str) -> Markup:
    """A line drawing."""
    return Markup(f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d="{_PICTURES[name]}"/></svg>')


def when(at: datetime | str | None) -> str:
    """A time as the people of this machine write it, to the minute."""
    if not at:
        return ""
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found.astimezone().strftime("%Y-%m-%d %H:%M")


def plain(value: object) -> str:
    """A value as one would type it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return "" if value is None else str(value)


def place(row: Mapping[str, object]) -> str:
    """Where a row of an upload comes from: its line, or its record; the file is the one that the page is about."""
    inner = str(row.get("file", "")).partition("/")[2]
    where = f"line {row['line']}" if "line" in row else f"record {row['record']}" if "record" in row else ""
    return ", ".join(part for part in (inner, where) if part) or "the file"


@cache
def templates() -> Environment:
    """The templates; whatever is put into one is text, never HTML."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True,
        trim_blocks=True, lstrip_blocks=True, extensions=[FormToken],
    )  # fmt: skip
    shared = {
        "picture": picture,
        "size": size,
        "counted": counted,
        "when": when,
        "place": place,
        "plain": plain,
        "said_here": for_page,
        "label": label,
        "known_as": known_as,
        "nav": NAV,
        "form_token": form_token,
        "who": WHO.get,
    }
    found.globals.update(shared, here="", said="", wrong=False)
    return found


def drawn(template: str, **values: object) -> Response:
    """A page, or a part of one."""
    text = templates().get_template(template).render(**values)
    # A file name can hold half a character, which no encoding knows.
    return HTMLResponse(text.encode("utf-8", "replace"), headers={"Cache-Control": "no-store"})


def to(path: str) -> Response:
    """On to another page, after a form was sent."""
    return RedirectResponse(path, 303)


class PageRoute(APIRoute):
    """A route whose refusals are pages: a sentence, and a way back."""

    def get_route_handler(self) -> Handler:
        """The handler, which turns an error of ours into a page."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except Refused as error:
                status, sentence = error.status, str(error)
            except InstallerError as error:
                status, sentence = 400, str(error)
            title = "Not found" if status == 404 else "That did not work"
            answer = drawn("problem.html", title=title, sentence=for_page(sentence), back=back(request))
            answer.status_code = status
            return answer

        return handler


def back(request: Request) -> str:
    """The page that one comes from, where it is one of these."""
    origin, _, path = request.headers.get("referer", "").partition(request.headers.get("host", "\0"))
    return path if origin in ("http://", "https://") and path.startswith("/") else "/models"
