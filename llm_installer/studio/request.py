"""What is asked of a studio, and whether it can be: light to import."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import urlsplit

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.hints import pip
from llm_installer.server.request import LOOPBACK

PORT = 7860
NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "python_multipart")
"""Modules that the studio needs besides those of training."""
PASSWORDS = "argon2"
"""And where people sign in."""


@dataclass(frozen=True)
class StudioRequest:
    """Where to listen, by what name others reach it, where it keeps what it knows, and how much it takes."""

    host: str = "127.0.0.1"
    port: int = PORT
    public_url: str = ""
    """https address at which a proxy hands requests on to this server; empty: only this machine reaches it."""
    database: str = ""
    """Address of a database; empty: a file of SQLite in the data folder."""
    upload_bytes: int = 2 << 30
    """Longest file."""
    kept_back: int = 200 << 20
    """Bytes of disk that are never filled by what is sent here."""
    lease: float = 60.0
    """Seconds after which a worker that is not heard of has lost its job."""
    worker: bool = True
    """Whether it has a worker of its own."""
    accounts: bool = False
    """Whether people sign in; they always do where `host` is beyond this machine."""

    @property
    def people(self) -> bool:
        """Whether there are accounts."""
        return self.accounts or self.host not in LOOPBACK

    @property
    def public_host(self) -> str:
        """Host of the public address, with its port where it names one."""
        return urlsplit(self.public_url).netloc.lower()


def check(request: StudioRequest) -> None:
    """Raise UsageError for an address that cannot be, and InstallerError where what it needs is not installed."""
    if request.public_url:
        _check_public(request.public_url)
    needed = (*NEEDED, PASSWORDS) if request.people else NEEDED
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise InstallerError(
            f"The studio needs the packages of this program's extra `studio`, and {missing[0]} is not installed; "
            f"install them with: {pip(quoted_extra())}"
        )


def quoted_extra() -> str:
    """What to install: the extra, or its packages where this program runs from a checkout that was never installed."""
    try:
        distribution("llm_installer")
    except PackageNotFoundError:
        return "fastapi uvicorn sqlalchemy alembic python-multipart nbformat argon2-cffi"
    return "'llm_installer[studio]'"


def _check_public(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise UsageError(f"--public-url {url} is not an address such as https://studio.example.org")
    if parts.path.strip("/"):
        raise UsageError(f"--public-url {url} must be the top of a host, without a path")
