"""Freed memory is not faulted in again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from llm_installer.training.fast.cpu.allocator import REMEMBERED, SHAPES, remember_few_products


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as Linux counts them")
def test_freed_memory_is_not_faulted_in_again() -> None:
    code = (
        "import resource as r\nimport sys\n"
        "from llm_installer.training.fast.cpu.allocator import reserve_freed_memory as keep\n"
        "assert sys.argv[1] == 'no' or keep()\n"
        "for i in range(40):\n  b = bytearray(b'1') * (64 << 20); del b\n"
        "print(r.getrusage(r.RUSAGE_SELF).ru_minflt)"
    )
    faults = [
        int(subprocess.run([sys.executable, "-c", code, keep], capture_output=True, check=True).stdout)
        for keep in ("no", "yes")
    ]
    assert faults[1] * 5 < faults[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is counted as Linux counts it")
@pytest.mark.parametrize(("tokens", "given_back"), [(100, True), (150, True), (300, False)])
def test_no_more_freed_memory_is_kept_than_a_micro_batch_needs(tokens: int, given_back: bool) -> None:
    """The fourth takes three times as much as those before, and is that much larger or is not."""
    code = f"""
from llm_installer.core.process_memory import resident_bytes
from llm_installer.training.fast.cpu.reserved import ReservedMemory
from llm_installer.training.fast.cpu.allocator import reserve_freed_memory
assert reserve_freed_memory()
def work(megabytes):
    blocks = [bytearray(b"1") * (1 << 20) for _ in range(megabytes)]
    del blocks
freed, before = ReservedMemory(), resident_bytes()
for megabytes, tokens in ((200, 100), (180, 90), (220, 100), (600, {tokens}), (200, 100)):
    work(megabytes)
    freed.micro_batch_done(tokens)
    print((resident_bytes() - before) >> 20)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    held = [int(line) for line in run.stdout.split()]
    assert all(190 < megabytes < 300 for megabytes in held[:3]), held
    if given_back:
        assert held[3] < 50, "far more than usual"
        assert 190 < held[4] < 300, held
    else:
        assert all(590 < megabytes < 700 for megabytes in held[3:]), held


def test_onednn_is_told_before_the_first_product_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in (("", REMEMBERED), ("7", "7")):
        for name in SHAPES:
            monkeypatch.setenv(name, given)
            if not given:
                del os.environ[name]
        remember_few_products()
        assert {os.environ[name] for name in SHAPES} == {expected}


@pytest.mark.slow
@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="oneDNN multiplies here only with such a CPU")
def test_shapes_that_never_come_again_hold_little_memory() -> None:
    code = """
import sys
if sys.argv[1] == "yes":
    from llm_installer.training.fast.cpu.allocator import REMEMBERED, SHAPES, remember_few_products
    remember_few_products()
import torch
from llm_installer.core.process_memory import resident_bytes
weight = torch.ones(128, 128, dtype=torch.bfloat16)
torch.ones(900, 128, dtype=torch.bfloat16) @ weight
before = resident_bytes()
for rows in range(300, 900):
    torch.ones(rows, 128, dtype=torch.bfloat16) @ weight
print(resident_bytes() - before)
"""
    # A test that trained in this process has left them set.
    environment = {name: value for name, value in os.environ.items() if name not in SHAPES}
    held = [
        int(subprocess.run([sys.executable, "-c", code, few], capture_output=True, check=True, env=environment).stdout)
        for few in ("no", "yes")
    ]
    assert held[1] * 2 < held[0], held
