"""Where the base model of a model directory came from: its repository on a hub and the revision, where it has one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import read_object


@dataclass(frozen=True)
class HubBase:
    """A repository on a hub."""

    id: str
    revision: str
    """The commit, or empty where it is not known."""


def hub_base(record: Path) -> HubBase | None:
    """The repository that the model with this model_info.json was installed from; None for one from a folder."""
    with suppress(ModelError):  # the adapter is worth more than the name of its base
        found = read_object(record)
        if found.get("source") == "hub" and isinstance(found.get("id"), str) and found["id"]:
            return HubBase(str(found["id"]), str(found.get("revision") or ""))
    return None
