"""What serving loads, and what it leaves behind: warnings are errors here, so packages must come without any; and the
threads of a server end with it, those that stream included."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.server.request import ServeRequest
from tests.server.conftest import running

PACKAGES = ("fastapi", "uvicorn", "starlette", "httpx2", "openai", "llguidance", "prompt_toolkit", "gguf", "llama_cpp")
ROOT = Path(__file__).parents[2]
SERVES = "llm_installer.server.story"


def said_on_loading(module: str) -> str:
    """What Python says of it where warnings are errors; empty where it loads without a word."""
    words = [sys.executable, "-W", "error", "-c", f"import {module}"]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT).stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", [*PACKAGES, SERVES])
def test_it_loads_without_a_warning(module: str) -> None:
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module} is not installed")
    assert said_on_loading(module) == ""


def test_a_warning_would_be_seen() -> None:
    said = said_on_loading("warnings; warnings.warn('odd')")
    assert said.splitlines()[-1] == "UserWarning: odd"


def test_no_thread_of_a_server_outlives_it(served_folder: ModelDir) -> None:
    before = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for made in running(served_folder, ServeRequest(port=0)):
            body = {"model": made.name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
            with made.http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as stream:
                assert "data: [DONE]" in [*stream.iter_lines()]
            for path in ("/", "/page/page.js", "/openapi.json", "/v1/models", "/metrics"):
                assert made.http.get(path).status_code == 200
            assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) - before == set()
    assert [str(each.message) for each in warned] == []
