"""Random models of each kind as installed model directories, made once for each process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.paths import ModelDir
from tests.export.made_models import install_model

Base = Callable[[str], ModelDir]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The model directory of a kind in made_models.MODELS."""
    made: dict[str, ModelDir] = {}

    def get(kind: str) -> ModelDir:
        if kind not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LLM_HOME", str(tmp_path_factory.mktemp("home")))
                made[kind] = install_model(kind, tmp_path_factory.mktemp("made"))
        return made[kind]

    return get


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LLM_HOME, and an empty folder to be in."""
    monkeypatch.setenv("LLM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
