"""Whether the memory that a training needs is held by a chat on this machine: then the job waits, and says for what."""

from __future__ import annotations

from collections.abc import Mapping

from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.served import servers
from llm_installer.core.text import size

AGAIN = 20.0
"""Seconds after which it is looked at again."""


def chats() -> dict[str, str]:
    """Who answers on this machine, by the name of the model: the chats of the studio, and other servers."""
    found = {}
    if models_dir().is_dir():
        for root in sorted(models_dir().iterdir()):
            if running := servers(ModelDir(root)):
                found[root.name] = str(running[0])
    return found


def in_the_way(plan: Mapping[str, object], present: Mapping[str, str]) -> str:
    """Why a training has to wait; empty where it need not, or waiting would not help. `plan` is the object that
    `train --dry-run --json` answers with, which counts what others hold."""
    memory = plan.get("memory")
    if not present or not isinstance(memory, dict) or memory.get("fits") is not False:
        return ""
    needed, free = memory["predicted_bytes"], memory["free_bytes"]
    assert isinstance(needed, (int, float)) and isinstance(free, (int, float))
    names = " and ".join(present)
    return (
        f"Waiting for memory: this needs {size(needed)} and {size(free)} are free while {names} "
        f"{'answers' if len(present) == 1 else 'answer'}; stop {'it' if len(present) == 1 else 'them'} on the page Chat"
    )
