"""A hub on the loopback that can be pushed to, and a model directory with a run to push."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from llm_installer.core.paths import ModelDir
from tests.export.push.made import give_base_a_hub, make_pushable
from tests.loopback_hub import Hub, served_hub

TOKEN = "hf_" + "T" * 34


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The client of this process asks the hub here, with a token: its settings are changed in place."""
    with served_hub() as served:
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield served
        close_session()


@pytest.fixture(scope="session")
def pushable(base: Callable[[str], ModelDir], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a run, and beside it the data of the run."""
    place = tmp_path_factory.mktemp("pushable")
    shutil.copytree(base("llama").root, place / "lamp-model")
    folder = ModelDir(place / "lamp-model")
    give_base_a_hub(folder)
    make_pushable(folder, place / "lamps.jsonl")
    return place


@pytest.fixture
def folder(pushable: Path, tmp_path: Path) -> ModelDir:
    """A copy of it, which a test may change; the data stay where they are."""
    shutil.copytree(pushable / "lamp-model", tmp_path / "lamp-model", symlinks=True)
    return ModelDir(tmp_path / "lamp-model")
