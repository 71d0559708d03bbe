"""What a terminal tells the one who runs a studio: where to make the first account, and how to get back in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from llm_installer.core.errors import InstallerError
from llm_installer.core.home import llm_home
from llm_installer.core.json_file import read_object
from llm_installer.studio.access import accounts
from llm_installer.studio.access.accounts import FIRST, RESET
from llm_installer.studio.access.rights import ADMIN
from llm_installer.studio.context import Studio
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.store.opening import open_store


def first_link(studio: Studio) -> str:
    """Where the first account is made; one of an earlier start is worth nothing any more. Empty where there is an
    account."""
    with studio.store.writing() as session:
        if accounts.any_there(session):
            return ""
        return f"{studio.base}/{FIRST}/{accounts.make_link(studio.store, session, FIRST, ADMIN)}"


def secret_line(link: str, folder: Path) -> str:
    """What a terminal shows of a link; where a log is written instead, the name of a file that holds it."""
    if sys.stdout.isatty():
        return link
    file = folder / "first-link.txt"
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(f"{link}\n")
    return f"see {file}"


def reset_link(request: StudioRequest, name: str) -> str:
    """Where an account gets a new password; the studio may be running. Raises InstallerError."""
    folder = llm_home() / "studio"
    store = open_store(request.database or folder / "studio.sqlite3")
    try:
        with store.writing() as session:
            account = accounts.by_name(session, name)
            if account is None:
                there = ", ".join(one.name for one in accounts.listed(session)[:20]) or "none"
                raise InstallerError(f"There is no account {name!r}; there are: {there}")
            secret = accounts.make_link(store, session, RESET, account.role, account.id)
    finally:
        store.close()
    return f"{_address(request, folder)}/{RESET}/{secret}"


def _address(request: StudioRequest, folder: Path) -> str:
    if request.public_url:
        return request.public_url.rstrip("/")
    try:
        return str(read_object(folder / "server.json")["address"])
    except (InstallerError, KeyError):
        return f"http://127.0.0.1:{request.port}"
