"""Where the base model of a model directory came from: its repository on a hub and the revision, where it has one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import read_object

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


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


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id, org/name."""
    return _ID.fullmatch(name) is not None


def installed_from(models: Path, name: str) -> Iterator[Path]:
    """The model directories below `models` that were installed from this hub id; a hub does not mind case."""
    if is_hub_id(name):
        for record in sorted(models.glob("*/model_info.json")):
            base = hub_base(record)
            if base and base.id.lower() == name.lower():
                yield record.parent
