"""What the install tests share: a home with a space in its name, hand-made models, installs as processes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 16,
}


def safetensors(values: int, fill: int = 0) -> bytes:
    """A safetensors file with one float32 tensor."""
    head = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes([fill]) * (4 * values)


def model_content(config: dict[str, Any] | None = None, values: int = 64, fill: int = 0) -> dict[str, bytes]:
    """The files of a model that can be trained, as name and content."""
    return {
        "config.json": json.dumps(CONFIG if config is None else config).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": b"{}",
        "model.safetensors": safetensors(values, fill),
    }


def write_files(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LLM_HOME, in a folder whose name has a space."""
    folder = tmp_path / "my models"
    monkeypatch.setenv("LLM_HOME", str(folder))
    return folder


@pytest.fixture
def content() -> Callable[..., dict[str, bytes]]:
    return model_content


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Make a model folder by hand; `extra` adds files or, with None, leaves one out."""

    def make(name: str = "small", extra: dict[str, bytes | None] | None = None, **options: Any) -> Path:
        files = {**model_content(**options), **(extra or {})}
        return write_files(tmp_path / name, {k: v for k, v in files.items() if v is not None})

    return make


SCRIPT = """
import sys, json
from llm_installer.core.errors import InstallerError
from llm_installer.install import install
exec(sys.argv[2])
try:
    print("ROOT", install(**json.loads(sys.argv[1])).root)
except InstallerError as error:
    print("ERROR", type(error).__name__, error)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def start_install(home: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Begin an install in a process of its own, because the hub's client reads its settings when imported."""

    def start(
        model: str, endpoint: str = "", first: str = "", env: dict[str, str] | None = None, **options: Any
    ) -> Any:
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPO),
            "LLM_HOME": str(home),
            "HOME": str(tmp_path),
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": endpoint,
            **(env or {}),
        }
        command = [sys.executable, "-c", SCRIPT, json.dumps({"model": model, **options}), first]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=settings, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    return start


@dataclass(frozen=True)
class Ended:
    code: int
    output: str
    error: str
    """What was refused: the class of the error and its sentence."""
    stderr: str


@pytest.fixture
def run_install(start_install: Callable[..., subprocess.Popen[str]]) -> Callable[..., Ended]:
    """An install in a process of its own, to its end."""

    def run(model: str, endpoint: str = "", **options: Any) -> Ended:
        process = start_install(model, endpoint, **options)
        output, stderr = process.communicate(timeout=60)
        errors = [line.removeprefix("ERROR ") for line in output.splitlines() if line.startswith("ERROR ")]
        return Ended(process.returncode, output, "".join(errors), stderr)

    return run
