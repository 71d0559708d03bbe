"""What is spared between a command and its work, and that nothing is lost by it."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from llm_installer.core import startup

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
        gc.set_threshold(*usual)
