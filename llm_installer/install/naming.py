"""Names that a model directory can have on any system, and ids of models in addresses that were pasted."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from llm_installer.core.errors import ModelError, UsageError
from llm_installer.core.text import steering

HUBS = ("huggingface.co", "www.huggingface.co", "hf.co")
_LONGEST = 200
"""Bytes; with what this program adds to it while it works, a name must have at most 255."""
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\..*)?", re.I | re.S)
"""Names of devices on Windows, whatever follows after a dot."""
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\s*"), "it is empty"),
    (re.compile(r"\.\.?"), "it means a folder that is there already"),
    (re.compile(r".*[/\\].*", re.S), "there is a slash in it"),
    (re.compile(r"\..*", re.S), "it begins with a dot, which hides it"),
    (re.compile(r"-.*", re.S), "it begins with a dash, as an option does"),
    (re.compile(r"~.*", re.S), "it begins with a tilde, which means a home folder"),
    (re.compile(r"\s.*|.*\s", re.S), "it begins or ends with a space"),
    (re.compile(r".*\.", re.S), "it ends with a dot, which Windows leaves out"),
    (re.compile(r'.*[<>:"|?*].*', re.S), 'Windows knows no file whose name has one of < > : " | ? *'),
    (_RESERVED, "Windows keeps it for a device"),
)
_KINDS = {
    "datasets": "a dataset; train on it with: --data {}",
    "spaces": "a space and not a model",
    **dict.fromkeys(("collections", "papers", "docs", "blog", "learn", "posts"), "no page of a model"),
}
_PAGES = ("tree", "blob", "resolve", "raw", "blame", "commit", "commits")
"""What stands between the id of a model and a revision in the addresses of its pages."""


@dataclass(frozen=True)
class Page:
    """A page of the hub: which model it is about, and which revision, where it says so."""

    id: str
    revision: str | None


def wrong_with_name(name: str) -> str:
    """Why a model directory cannot have this name, as the end of a sentence; empty where it can."""
    if steering(name) or "\t" in name or "\0" in name:
        return "there is a control character in it"
    if len(name.encode("utf-8", "surrogateescape")) > _LONGEST:
        return f"it is longer than {_LONGEST} bytes"
    return next((why for rule, why in _RULES if rule.fullmatch(name)), "")


def page_of(text: str) -> Page | None:
    """The model in an address as a browser shows it, with or without https://; None for what is no address.

    Raises UsageError for a page of the hub that is about something else, ModelError for one of somebody else.
    """
    try:
        parts = urlsplit(text.strip() if "://" in text else f"//{text.strip()}")
    except ValueError:  # an address of IPv6 without its end
        return None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme == "hf":  # hf://org/name, where the first part is no host
        host, path = HUBS[0], f"/{parts.netloc}{parts.path}"
    else:
        path = parts.path
    if host not in (*HUBS, _own_hub()):
        if scheme in ("http", "https"):
            raise ModelError(f"{text} is no page of {HUBS[0]}; give a hub id (org/name) or a folder")
        return None
    words = [unquote(word) for word in path.split("/") if word]
    words = words[1:] if words[:1] == ["models"] else words
    if words[:1] and words[0] in _KINDS:
        raise UsageError(f"{text} is {_KINDS[words[0]].format('/'.join(words[1:3]))}")
    if not words:
        raise UsageError(f"{text} names no model; open the page of one, and give its address or its id (org/name)")
    count = 1 if len(words) == 1 or words[1] in _PAGES else 2
    return Page("/".join(words[:count]), _revision(words[count:]))


def _revision(words: list[str]) -> str | None:
    """What follows after tree, blob and the like; the branch of a pull request has slashes of its own."""
    if len(words) < 2 or words[0] not in _PAGES:
        return None
    return "/".join(words[1:4]) if words[1:3] in (["refs", "pr"], ["refs", "convert"]) else words[1]


def _own_hub() -> str:
    """The host of HF_ENDPOINT, for those who have a hub of their own."""
    return (urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname or HUBS[0]).lower()
