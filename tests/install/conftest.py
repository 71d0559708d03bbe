"""What the install tests share: a home with a space in its name, hand-made models, installs as processes."""

from __future__ import annotations

import json
import math
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
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 16,
    "tie_word_embeddings": True,
}
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [
        {"id": 0, "content": "<eos>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
    ],
    "model": {"type": "WordLevel", "vocab": {"<eos>": 0, "a": 1, "b": 2}, "unk_token": "a"},
}  # fmt: skip


def llama_tensors(width: int, layers: int, vocabulary: int) -> dict[str, list[int]]:
    """The tensors of a Llama whose layers are all as wide as the others and whose head is tied, with their shapes."""
    square, block = [width, width], "model.layers.{}."
    names = [f"self_attn.{n}_proj" for n in "qkvo"] + [f"mlp.{n}_proj" for n in ("gate", "up", "down")]
    norms = ["input_layernorm", "post_attention_layernorm"]
    tensors = {"model.embed_tokens.weight": [vocabulary, width], "model.norm.weight": [width]}
    for i in range(layers):
        tensors |= {f"{block.format(i)}{name}.weight": square for name in names}
        tensors |= {f"{block.format(i)}{name}.weight": [width] for name in norms}
    return tensors


def safetensors(tensors: dict[str, list[int]], dtype: str = "F32", fill: int = 0) -> bytes:
    """A safetensors file with these tensors."""
    head: dict[str, Any] = {}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + math.prod(shape) * (4 if dtype == "F32" else 2)
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    body = json.dumps(head).encode()
    return struct.pack("<Q", len(body)) + body + bytes([fill]) * end


def model_content(config: dict[str, Any] | None = None, values: int = 1000, fill: int = 0) -> dict[str, bytes]:
    """The files of a model that can be trained, as name and content; what is left of `values` is a tensor too many."""
    tensors = llama_tensors(8, 1, 16)
    tensors["w"] = [values - sum(map(math.prod, tensors.values()))]
    return {
        "config.json": json.dumps(CONFIG if config is None else config).encode(),
        "tokenizer.json": json.dumps(TOKENIZER).encode(),
        "tokenizer_config.json": json.dumps({"eos_token": "<eos>"}).encode(),
        "model.safetensors": safetensors(tensors, fill=fill),
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
