"""What is spared between a command and its work, and that nothing is lost by it."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_installer.core import startup
from tests.tiers import first_here

PEFT = """
import sys
from llm_installer.core.startup import import_bitsandbytes
import torch
usual = torch.compile
import_bitsandbytes()
assert torch.compile is usual
import peft, bitsandbytes
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
assert "torch._inductor.compile_fx" not in sys.modules, "the compiler was started"
weight = torch.randn(64, 64)
packed, state = quantize_4bit(weight, quant_type="nf4")
assert (dequantize_4bit(packed, state) - weight).abs().mean() < 0.2
codes, scales, _ = bitsandbytes.functional.int8_vectorwise_quant(weight.bfloat16())
assert ((codes * scales[:, None] / 127) - weight).abs().max() < 0.1
"""


# Each way into the program, up to the first mistake that it finds.
ENTRIES = {
    "install": "from llm_installer import api; api.install('tiny')",
    "lora_sft": "from llm_installer import api; api.lora_sft('nowhere', 'nothing.json')",
    "command": "from llm_installer.cli.main import main; sys.argv[1:] = ['list']; main()",
}
SAYS = """
import os, sys
names = sys.argv[1].split()
{first}
try:
    {entry}
except (Exception, SystemExit):
    pass
from huggingface_hub import constants
print([os.environ.get(name) for name in names], constants.HF_HUB_DISABLE_TELEMETRY)
"""


@pytest.mark.parametrize("entry", first_here(("install", "command", "lora_sft"), 2))
def test_no_library_reports_about_its_users(entry: str, tmp_path: Path) -> None:
    first = "" if entry == "command" else "import huggingface_hub.constants"  # in somebody else's program
    names = startup.NO_TELEMETRY
    kept = {n: v for n, v in os.environ.items() if n not in names and n not in ("DO_NOT_TRACK", "DISABLE_TELEMETRY")}
    program = [sys.executable, "-c", SAYS.format(first=first, entry=ENTRIES[entry]), " ".join(names)]
    environment = {**kept, "LLM_HOME": str(tmp_path)}
    done = subprocess.run(program, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == f"{list(names.values())} True"


def test_what_the_user_has_set_about_telemetry_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    for name in startup.NO_TELEMETRY:
        monkeypatch.setenv(name, "0")
    startup.no_telemetry()
    assert {os.environ[name] for name in startup.NO_TELEMETRY} == {"0"}
    assert constants.HF_HUB_DISABLE_TELEMETRY is False
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    startup.no_telemetry()
    assert constants.HF_HUB_DISABLE_TELEMETRY is True


@pytest.mark.slow
def test_peft_and_bitsandbytes_work_without_the_compiler() -> None:
    pytest.importorskip("bitsandbytes")
    subprocess.run([sys.executable, "-c", PEFT], check=True, timeout=120)


def test_a_kernel_is_compiled_when_it_is_first_called(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    compiled: list[tuple[Callable[..., Any], dict[str, Any]]] = []

    def compiler(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        compiled.append((function, options))
        return function

    monkeypatch.setattr(torch, "compile", compiler)

    @startup._compiled_when_called
    def one(x: int) -> int:
        return x + 1

    @startup._compiled_when_called(dynamic=True)
    def two(x: int) -> int:
        return x + 2

    assert compiled == []
    assert (one(1), one(2), two(x=1)) == (2, 3, 3)
    assert [options for _, options in compiled] == [{}, {"dynamic": True}]


def test_garbage_is_looked_for_as_usual_once_all_is_loaded() -> None:
    usual, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        startup.ready()
        assert gc.get_freeze_count() == frozen, "in somebody else's program nothing is kept"
        startup.begin()
        startup.begin()
        assert gc.get_threshold() == (startup.RARELY, *usual[1:])
        startup.ready()
        assert gc.get_threshold() == usual
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        if frozen:  # by the tests' own collection
            gc.freeze()
        gc.set_threshold(*usual)


def test_libraries_are_quiet_and_the_callers_own_warnings_are_not() -> None:
    def warn(module: str, kind: str) -> None:
        exec(f"import warnings\nwarnings.warn('old', {kind})", {"__name__": module})

    level = logging.getLogger("transformers").level
    with startup.quiet_libraries():
        warn("transformers.modeling_utils", "UserWarning")
        warn("somewhere.else", "FutureWarning")
        assert logging.getLogger("transformers").level >= logging.ERROR
        with pytest.raises(UserWarning):
            warn("my_script", "UserWarning")
    assert logging.getLogger("transformers").level == level
    with pytest.raises(UserWarning):
        warn("transformers.modeling_utils", "UserWarning")
