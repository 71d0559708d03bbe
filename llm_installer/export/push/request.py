"""What is asked of a push, and what comes of it; nothing of this loads a model or asks a hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import suggest
from llm_installer.core.text import shortened
from llm_installer.planning.settings import built

ADAPTER, MERGED, GGUF = "adapter", "merged", "gguf"
WORDS = {ADAPTER: "an adapter", MERGED: "a merged model", GGUF: "a GGUF file"}
"""What can be pushed, in words."""
README = "README.md"
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?"
_ID = re.compile(rf"{_PART}/{_PART}", re.ASCII)


@dataclass(frozen=True)
class PushRequest:
    """What is pushed, and where to."""

    run: str | None = None
    """A run: its id, a part of it, or `last`."""
    lora: str | None = None
    """The folder of an adapter; None for the run's, or ./lora."""
    repo: str | None = None
    """OWNER/NAME; None for the user's own, named after model and run."""
    private: bool = False
    """Whether a repository that is made for it is private."""
    merged: bool = False
    """Push a stand-alone model instead of the adapter."""
    gguf: bool = False
    """Push that as a GGUF file."""
    dry_run: bool = False
    """Show what would be sent, and send nothing."""

    @property
    def kind(self) -> str:
        """One of WORDS."""
        return GGUF if self.gguf else MERGED if self.merged else ADAPTER


class PushOptions(TypedDict, total=False):
    """What may be said about a push in Python; the fields of PushRequest say what each means."""

    run: str
    lora: str | Path
    private: bool
    merged: bool
    gguf: bool
    dry_run: bool


def asked(repo: str | None, options: Mapping[str, object]) -> PushRequest:
    """The request of keywords. Raises UsageError for unknown ones."""
    known = [f.name for f in fields(PushRequest)]
    for name in options:
        if name not in known:
            raise UsageError(f"There is no option {name!r}{suggest(name, known)}")
    lora = options.get("lora")
    return built(PushRequest, {**options, "repo": repo, "lora": None if lora is None else str(lora)})


@dataclass(frozen=True)
class File:
    """A file that is sent."""

    name: str
    bytes: int


@dataclass(frozen=True)
class Preview:
    """What a push would send."""

    repo: str
    """Without an owner where only a hub could tell who that is."""
    kind: str
    private: bool
    card: str
    files: tuple[File, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pushed:
    """What a push sent, fetched back and found equal."""

    repo: str
    url: str
    commit: str
    kind: str
    files: tuple[File, ...]
    proof: str
    """How it was compared, as a sentence."""
    notes: tuple[str, ...] = ()


def refuse_words(request: PushRequest) -> None:
    """Raise UsageError for words that contradict each other, or name no repository."""
    for one, other in (("run", "lora"), ("merged", "gguf")):
        if getattr(request, one) and getattr(request, other):
            raise UsageError(f"--{one} and --{other} contradict each other; give one of them")
    refuse_repo(request.repo)


def refuse_repo(repo: str | None) -> None:
    """Raise UsageError for what cannot be the name of a repository."""
    if repo is not None and (not _ID.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith(".git")):
        raise UsageError(
            f"--repo {shortened(repo, 100)!r} is no name of a repository; give OWNER/NAME, in letters, digits, "
            "dots, dashes and underscores, such as --repo anna/my-model"
        )


def repo_name(name: str) -> str:
    """The name of a repository from any other: what no repository may be called is left out, and something stays."""
    found = re.sub(r"--+", "-", re.sub(r"[^A-Za-z0-9_.-]+|\.\.+", "-", name)).lstrip("-._")
    return re.sub(r"(\.git|[-._])+$", "", found) or "model"
