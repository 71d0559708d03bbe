"""Fixtures for all tests: small real models, built once for each process, and an LLM_HOME of its own for each test."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

from tests.generated import many
from tests.tiers import LONG, RARE, minutes, names_in

settings.register_profile("suite", max_examples=many(100), deadline=None)  # a busy machine is no fault
settings.load_profile("suite")
# A shell starts background jobs with Ctrl-C ignored, nohup with SIGHUP, and children inherit that: the tests of signals
# need both back.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["LLM_INSTALLER_COMMAND"] = "llm-installer"  # what hints say, wherever the tests run
os.environ["LLM_WAITING"] = "0"  # what is said on stderr is not to depend on how fast a machine is
# Each test has a home of its own; kernels in C need not be compiled for each.
os.environ.setdefault("LLM_KERNELS", str(Path(tempfile.gettempdir()) / f"llm-kernels-{os.getuid()}"))

if "PYTEST_XDIST_WORKER" in os.environ:
    # Sooner or later this process imports it, and most quickly as the program does: without the compiler of PyTorch.
    from llm_installer.core.startup import import_bitsandbytes

    import_bitsandbytes()

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Libraries and thousands of tests stay: nothing is looked for among them, neither now nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


LONGEST = "tests/stories/test_several.py"
"""Tests of which each takes half a minute."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long by the clock is slow, wherever it stands."""
    long, rare = names_in(LONG), names_in(RARE)
    for item in items:
        names = {item.nodeid, item.nodeid.partition("[")[0]}
        if names & (long | rare):
            item.add_marker(pytest.mark.slow)
        if names & rare:
            item.add_marker(minutes)
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))  # or one process ends with them, the other idle


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and the real pretrained stories260K; skips only where the folder is absent."""
    if not SHARED.is_dir():
        pytest.skip("the shared folder is not here")
    return SHARED


@pytest.fixture(autouse=True)
def llm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty LLM_HOME, with a space in its name, and settings that nobody has made."""
    home = tmp_path / "llm home"
    monkeypatch.setenv("LLM_HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", None)  # a studio keeps uploads in a folder of its own
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    yield home


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts llm-installer as a user does; what is left of it at the end of the test, children included, is killed.

    `with Popen(...)` would wait for it instead, and a test that failed half-way would never end.
    """
    started: list[subprocess.Popen[str]] = []

    def begin(*words: object, before: Sequence[str] = (), **more: Any) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-u", "-m", "llm_installer", *map(str, words)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        started.append(subprocess.Popen(command, text=True, **streams))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        process.communicate()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two test processes on two cores: more threads would only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with the built-in model's tokenizer and template, saved as transformers saves it."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from llm_installer.install.tiny import MODEL_DIR

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def installed(llm_home: Path, tiny_llama: Path) -> Path:
    """The random Llama as an installed model directory."""
    from llm_installer.install.installer import install

    return install(str(tiny_llama), say=lambda text: None).root


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes Alpaca rows that a model can learn by heart, as JSON lines."""
    import json

    def write(count: int, name: str = "data.jsonl") -> Path:
        file = tmp_path / name
        colours = ("red", "blue", "green", "yellow")
        rows = [{"instruction": f"Colour of thing {i}?", "output": f"It is {colours[i % 4]}."} for i in range(count)]
        file.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
        return file

    return write
