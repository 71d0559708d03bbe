"""Where the base model of a model directory came from, and which one is meant by a path, a name or a hub id."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.hints import program, quoted
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


def not_installed(name: str, instead: str) -> str:
    """The sentence for a hub id that no installed model has, with `instead` at its end; empty for what is none."""
    if not _ID.fullmatch(name):
        return ""
    install = f"install it with: {program()} install {quoted(name)}"
    return f"{name} is neither a model directory nor the hub id of an installed model; {install}{instead}"


def places(models: Path, name: str) -> Iterator[Path]:
    """The folders that a path or a name may mean as a model directory: the one whose `model` it is, itself, the one of
    that name below `models`, and those that were installed from this hub id; a hub does not mind case."""
    given = Path(name).expanduser()
    weights = Path(os.path.abspath(given))
    if weights.name == "model" and os.path.isfile(weights.parent / "model_info.json"):
        yield weights.parent
    yield given
    yield models / name.replace("/", "_")
    if _ID.fullmatch(name):
        for record in sorted(models.glob("*/model_info.json")):
            base = hub_base(record)
            if base and base.id.lower() == name.lower():
                yield record.parent
