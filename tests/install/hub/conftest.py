"""Installs from a model hub on the loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

from llm_installer.core.errors import InstallerError
from llm_installer.install import install
from tests.loopback_hub import Hub, Repo, served_hub


@pytest.fixture
def hub() -> Iterator[Hub]:
    with served_hub() as served:
        yield served


@pytest.fixture
def repo() -> Callable[..., Repo]:
    return Repo


@pytest.fixture
def served(hub: Hub, content: Callable[..., dict[str, bytes]]) -> Hub:
    """org/name, with duplicates of the weights in other formats."""
    duplicates = {"pytorch_model.bin": b"b", "model.onnx": b"o", "model.q4.gguf": b"g", "README.md": b"r"}
    hub.repos["org/name"] = Repo({**content(), **duplicates}, branches=("main", "v1"))
    return hub


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str
    error: str
    """What was refused: the class of the error and its sentence."""


@pytest.fixture
def asking_hub(home: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The client of this process asks the hub here: the settings that it has read are changed in place."""
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    close_session()


@pytest.fixture
def quick_install(asking_hub: Hub) -> Callable[..., Outcome]:
    """Install in this process, which is ten times as fast."""

    def run(model: str, **options: Any) -> Outcome:
        said: list[str] = []
        try:
            install(model, say=said.append, **options)
        except InstallerError as error:
            return Outcome(error.exit_code, "\n".join(said), f"{type(error).__name__} {error}")
        return Outcome(0, "\n".join(said), "")

    return run
