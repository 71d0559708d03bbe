"""Forms of a signed-in browser hold a token that no page from elsewhere knows; nobody behind this reads it.

That is the second lock: the first is the Origin of a request (guard.py), and the cookie is not sent from elsewhere.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode

from jinja2.ext import Extension
from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from llm_installer.studio.access.who import WHO

FIELD, HEADER = "form_token", "x-form-token"
LONGEST = 2 << 20
"""Bytes of a form without files."""
START = 16 << 10
"""Bytes in which the token of a form with files must be."""
_FORM = re.compile(r'<form\b[^>]*\bmethod="post"[^>]*>')
_BOUNDARY = re.compile(r'boundary="?([A-Za-z0-9\'()+_,./:=? -]{1,70})"?')


class FormToken(Extension):
    """Puts the token into every form of every template that is sent by POST, so that none can lack it."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The template with the field."""
        return _FORM.sub(lambda form: f"{form[0]}{{{{ form_token() }}}}", source)


def form_token() -> Markup:
    """The field; nothing where no cookie speaks for whoever asks."""
    who = WHO.get()
    found = Markup('<input type="hidden" name="{}" value="{}">')
    return found.format(FIELD, who.form_token) if who and who.form_token else Markup("")


async def opened(token: str, headers: Headers, receive: Receive) -> Receive | None:
    """The rest of a request whose form holds the token, without it; None for one that does not hold it."""
    kind, origin = headers.get("content-type", "").lower(), headers.get("origin")
    if given := headers.get(HEADER):
        return receive if _same(given, token) else None
    if kind.startswith("application/x-www-form-urlencoded"):
        return await _plain(token, receive)
    if kind.startswith("multipart/form-data"):
        boundary = _BOUNDARY.search(headers.get("content-type", ""))
        return await _with_files(token, boundary[1].encode(), receive) if boundary else None
    # No form of HTML can send these from elsewhere without asking first, and every browser then names the page.
    return receive if origin else None


async def _plain(token: str, receive: Receive) -> Receive | None:
    body, more = await _start_of(receive, LONGEST)
    if more:
        return None
    pairs = parse_qsl(body.decode("utf-8", "surrogateescape"), keep_blank_values=True, errors="surrogateescape")
    if not any(name == FIELD and _same(value, token) for name, value in pairs):
        return None
    rest = [(name, value) for name, value in pairs if name != FIELD]
    text = urlencode(rest, encoding="utf-8", errors="surrogateescape")
    return _again([{"type": "http.request", "body": text.encode(), "more_body": False}], receive)


async def _with_files(token: str, boundary: bytes, receive: Receive) -> Receive | None:
    """The token is the first field, since the form begins with it."""
    body, more = await _start_of(receive, START, until=b"--" + boundary)
    start = b"--" + boundary + b'\r\nContent-Disposition: form-data; name="' + FIELD.encode() + b'"\r\n\r\n'
    value, found, _ = body[len(start) :].partition(b"\r\n--" + boundary)
    if not body.startswith(start) or not found or not _same(value.decode("latin-1"), token):
        return None
    rest = body[len(start) + len(value) + 2 :]
    return _again([{"type": "http.request", "body": rest, "more_body": more}], receive)


async def _start_of(receive: Receive, most: int, until: bytes = b"") -> tuple[bytes, bool]:
    """(what comes first, whether there is more): all that there is, or until a text has come twice."""
    body, more = bytearray(), True
    while more and len(body) <= most and not (until and body.count(until) > 1):
        message = await receive()
        if message["type"] != "http.request":
            return b"", True
        body += message.get("body", b"")
        more = bool(message.get("more_body"))
    return bytes(body), more


def _again(first: Sequence[Message], receive: Receive) -> Receive:
    """What was read already, then the rest."""
    waiting = list(first)

    async def again() -> Message:
        return waiting.pop(0) if waiting else await receive()

    return again


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
