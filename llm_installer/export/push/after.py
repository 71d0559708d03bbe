"""A push at the end of a training: what can be refused is refused before it, and nothing after it makes it fail."""

from __future__ import annotations

from pathlib import Path

from llm_installer.core.errors import InstallerError
from llm_installer.core.hints import program, quoted, typed
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Voice
from llm_installer.export.push.request import PushRequest, refuse_repo


def ready_to_push(repo: str) -> None:
    """Raise UsageError for what is no name of a repository, and HubError where there is no token to push with."""
    refuse_repo(repo)
    from llm_installer.export.push.send import repository

    repository(repo, "")


def push_after(folder: ModelDir, adapter: Path, repo: str, voice: Voice) -> None:
    """Push what a run has left; where that fails, say why and what to type, for the run itself is done."""
    from llm_installer.export.push.story import push

    try:
        voice.show(push(folder, PushRequest(lora=str(adapter), repo=repo), voice))
    except InstallerError as error:
        again = f"{program()} push {folder.typed} --lora {typed(adapter)} --repo {quoted(repo)}"
        voice.line(f"The run is done, but its adapter was not pushed: {error}")
        voice.line(f"Push it with: {again}")
