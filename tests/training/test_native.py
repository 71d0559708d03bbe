"""The kernels in C: as near to the truth as PyTorch's own in bfloat16, on every shape, thread and number there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention, silu
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from llm_installer.core.hardware import c_compiler
from llm_installer.distributed.memory_errors import is_out_of_memory
from llm_installer.training.fast.cpu.native import functions
from llm_installer.training.fast.cpu.native.attention import attention, usable
from llm_installer.training.fast.cpu.native.calls import call
from llm_installer.training.fast.cpu.native.library import build, fingerprint, kept, library, processor
from llm_installer.training.fast.cross_entropy import LogitRule, cross_entropy_sum

pytestmark = pytest.mark.skipif(
    not os.environ.get("CC") and not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler"
)
Function = Callable[..., Tensor]


attends = pytest.mark.skipif(not usable(), reason="attention in C is for processors with dot products of bfloat16")


def test_this_machine_has_them() -> None:
    assert library()[1] == "" and usable() == ("avx512_bf16" in processor())


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / (exact.norm() + 1e-3 * exact.numel() ** 0.5))


def results(function: Function, given: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients, computed in a type."""
    leaves = [t.detach().to(dtype).requires_grad_() for t in given]
    output = function(*leaves)
    outer = random(*output.shape, seed=99).to(dtype)
    return [t.detach() for t in (output, *torch.autograd.grad(output, leaves, outer))]


def check(own: Function, plain: Function, *given: Tensor) -> None:
    """No further from the truth than PyTorch's operations in bfloat16, each output and gradient."""
    exact = results(plain, given, torch.float64)
    for ours, theirs, true in zip(
        results(own, given, torch.bfloat16), results(plain, given, torch.bfloat16), exact, strict=True
    ):
        assert error(ours, true) <= max(1.1 * error(theirs, true), 4e-3)


@pytest.mark.parametrize("width", [1, 31, 576])
@pytest.mark.parametrize(("offset", "casting"), [(0.0, "llama"), (1.0, "gemma"), (0.0, "gemma")])
def test_norms(width: int, offset: float, casting: str) -> None:
    weight = random(width, seed=1)

    def plain(x: Tensor) -> Tensor:
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
        return normed * (weight.to(x.dtype) + offset)

    check(lambda x: functions.norm(x, weight, 1e-5, offset, casting), plain, random(3, 5, width, scale=4.0))


@pytest.mark.parametrize("count", [1, 16, 1537])
@pytest.mark.parametrize(("kind", "plain"), [("silu", silu), ("tanh", lambda x: gelu(x, approximate="tanh"))])
def test_gates(kind: str, plain: Function, count: int) -> None:
    gate = torch.cat([random(count, scale=5.0), torch.tensor([-300.0, 0.0, 300.0]).bfloat16()])
    up = random(len(gate), seed=1)
    own = functions.load_kernels()[0]
    assert own
    check(lambda g, u: own.gates[kind](g * 1, u * 1), lambda g, u: plain(g) * u, gate, up)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("width", [2, 64, 80])
def test_rotary_embeddings(rows: int, width: int) -> None:
    angles = torch.randn(rows, 7, width // 2, generator=torch.Generator().manual_seed(1)).repeat(1, 1, 2)
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    q, k = random(3, 7, 4, width).transpose(1, 2), random(3, 7, 2, width, seed=1).transpose(1, 2)

    def joined(turn: Any) -> Function:
        return lambda q, k: torch.cat([t.flatten() for t in turn(q, k, cos.to(q.dtype), sin.to(q.dtype))])

    check(joined(functions.rotary), joined(apply_rotary_pos_emb), q, k)


@pytest.mark.parametrize("scale", [1.0, 0.25, 30.0])
@pytest.mark.parametrize("words", [3, 1000])
def test_the_loss_of_logits(words: int, scale: float) -> None:
    logits, targets = random(5, words, scale=4.0), torch.arange(5).remainder(words)
    exact = logits.double().requires_grad_()
    loss = cross_entropy(exact * scale, targets, reduction="sum")
    (slope,) = torch.autograd.grad(loss, exact)
    assert functions.score(logits.clone(), targets, LogitRule(scale), False) == pytest.approx(loss.item(), rel=1e-5)
    own = logits.clone()
    assert functions.score(own, targets, LogitRule(scale), True) == pytest.approx(loss.item(), rel=1e-5)
    assert error(own, slope) < 2e-3


LENGTHS = [[1], [2], [63], [64, 65], [1, 2, 3, 95, 96, 97], [300], [513]]


@attends
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(("heads", "groups", "width"), [(9, 3, 64), (4, 4, 8), (6, 1, 32), (2, 2, 80), (2, 1, 128)])
def test_attention(heads: int, groups: int, width: int, lengths: list[int]) -> None:
    given = [random(1, sum(lengths), n, width, seed=n).transpose(1, 2) for n in (heads, groups, groups + 10)]
    given[2] = given[2][:, :groups]
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        places = [slice(a, b) for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
        parts = [
            scaled_dot_product_attention(q[:, :, p], k[:, :, p], v[:, :, p], is_causal=True, scale=0.3, enable_gqa=True)
            for p in places
        ]
        return torch.cat(parts, 2).transpose(1, 2)

    check(lambda q, k, v: attention(q, k, v, bounds, 0.3), plain, *given)


@attends
def test_rows_are_documents_and_none_sees_another() -> None:
    q, k, v = (random(2, 40, 2, 16, seed=s).transpose(1, 2) for s in range(3))
    bounds = torch.tensor([0, 40, 80], dtype=torch.int32)
    together = attention(q, k, v, bounds, 0.25)
    alone = torch.cat([attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], bounds[:2], 0.25) for i in range(2)])
    assert torch.equal(together, alone)
    other = torch.cat([random(1, 2, 40, 16, seed=9), k[1:]])
    assert torch.equal(attention(q, other, v, bounds, 0.25)[1], together[1])


@attends
def test_large_scores_neither_overflow_nor_lose_their_digits() -> None:
    q, k, v = (random(1, 100, 2, 16, seed=s, scale=30.0).transpose(1, 2) for s in range(3))
    bounds = torch.tensor([0, 100], dtype=torch.int32)
    true = scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True).transpose(1, 2)
    assert error(attention(q, k, v, bounds, 0.25), true) < 5e-3


@attends
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_stays_visible(bad: float) -> None:
    x = random(2, 16)
    x[0, 3] = bad
    made = functions.norm(x, random(16, seed=1), 1e-5, 0.0, "llama")
    assert not made[0].isfinite().all() and made[1].isfinite().all()
    logits = random(2, 50)
    logits[1, 7] = bad
    assert not functions.score(logits, torch.tensor([1, 2]), LogitRule(), True).isfinite()
    q, k, v = (random(1, 2, 9, 8, seed=s) for s in range(3))
    q[0, 0, 4] = bad
    result = attention(q, k, v, torch.tensor([0, 9], dtype=torch.int32), 0.3)
    assert not result[0, 4, 0].isfinite().any() and result[0, :4].isfinite().all() and result[0, 5:].isfinite().all()


def test_other_types_are_refused_and_nothing_is_read_past_the_end() -> None:
    with pytest.raises(TypeError, match=r"bfloat16 on the CPU, not torch\.float32"):
        functions.norm(torch.randn(2, 8), random(8), 1e-5, 0.0, "llama")
    q = random(1, 2, 5, 8)
    for cos in (random(1, 4, 8), random(1, 5, 4), random(2, 5, 8)):
        with pytest.raises(ValueError, match="do not turn"):
            functions.rotary(q, q, cos, cos)
    with pytest.raises(ValueError, match="a cap"):
        functions.score(random(2, 8), torch.tensor([1, 2]), LogitRule(softcap=3.0), True)


def everything() -> list[Tensor]:
    """One result of each kernel."""
    q, k, v = (random(2, 90, 4, 16, seed=s).transpose(1, 2).requires_grad_() for s in range(3))
    attended = attention(q, k, v, torch.tensor([0, 90, 180], dtype=torch.int32), 0.25)
    found = [attended, *torch.autograd.grad(attended, (q, k, v), random(2, 90, 4, 16, seed=4))]
    logits = random(33, 500)
    found += [functions.score(logits, torch.arange(33), LogitRule(), True), logits]
    return [*found, functions.norm(random(33, 64), random(64, seed=1), 1e-5, 0.0, "llama")]


@attends
def test_any_number_of_threads_gives_the_same_bits() -> None:
    before, expected = torch.get_num_threads(), everything()
    try:
        torch.set_num_threads(3)
        assert all(map(torch.equal, everything(), expected))
    finally:
        torch.set_num_threads(before)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: everything(), range(8)):
            assert all(map(torch.equal, found, expected))


def test_kernels_take_as_many_threads_as_pytorch_has_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two micro-batches at once have a thread each; OpenMP in another library than PyTorch's knows nothing of that."""
    asked = Mock(**{"norm_forward.return_value": 0})
    monkeypatch.setattr("llm_installer.training.fast.cpu.native.calls.library", lambda: (asked, ""))
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(3,)) as pool:
        pool.submit(call, "norm_forward").result()
    asked.omp_set_num_threads.assert_called_once_with(3)


@attends
def test_no_workspace_is_memory_that_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (random(1, 2, 9, 8, seed=s).requires_grad_() for s in range(3))
    bounds = torch.tensor([0, 9], dtype=torch.int32)
    result = attention(q, k, v, bounds, 0.3)
    monkeypatch.setattr("llm_installer.training.fast.cpu.native.attention.call", lambda *_: 0)
    for work in (lambda: attention(q, k, v, bounds, 0.3), lambda: result.sum().backward()):
        with pytest.raises(RuntimeError) as caught:
            work()
        assert is_out_of_memory(caught.value)


def test_the_gate_says_when_it_is_asked_twice() -> None:
    own = functions.load_kernels()[0]
    assert own
    gate, up = random(8).requires_grad_(), random(8, seed=1).requires_grad_()
    made = own.gates["silu"](gate * 1, up * 1)
    made.backward(torch.ones_like(made), retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        made.backward(torch.ones_like(made))


def test_chunks_of_a_heads_loss_go_through_the_kernel() -> None:
    head = torch.nn.Linear(16, 60, bias=False).bfloat16().requires_grad_(False)
    hidden, targets = random(40, 16).requires_grad_(), torch.arange(40)
    plain, own = (cross_entropy_sum(hidden, head, targets, LogitRule(), s) for s in (None, functions.score))
    (expected,), (found,) = (torch.autograd.grad(loss, hidden) for loss in (plain, own))
    assert own.item() == pytest.approx(plain.item(), rel=1e-4) and error(found, expected.double()) < 1e-2


ASK = "from llm_installer.training.fast.cpu.native.library import library; print(library()[1] or 'works')"


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("", "works"),
        ("no-such-compiler", "there is no C compiler; with one (gcc, or clang with OpenMP) training here is faster"),
        (
            "gcc 'with an open quote",
            "there is no C compiler; with one (gcc, or clang with OpenMP) training here is faster",
        ),
        ("false", "the C compiler cannot make faster ones (it ended with 1)"),
        ("{script}", "the C compiler cannot make faster ones (sorry: no -fopenmp)"),
        ("{foreign}", "the C compiler cannot make faster ones (caf\ufffd: no)"),
        ("true", "faster ones cannot be made"),
    ],
)
def test_without_a_compiler_that_works_one_clause_says_why(tmp_path: Path, compiler: str, said: str) -> None:
    script = tmp_path / "cc"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && exit\necho "sorry: no -fopenmp" >&2\nexit 1\n')
    script.chmod(0o755)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b'#!/bin/sh\necho "caf\xe9: no" >&2\n[ "$1" = --version ] || exit 1\necho "caf\xe9"\n')
    foreign.chmod(0o755)
    made = tmp_path / "kernels"
    environment = {**os.environ, "LLM_KERNELS": str(made)}
    environment |= {"CC": compiler.format(script=script, foreign=foreign)} if compiler else {}
    command = [sys.executable, "-W", "ignore", "-c", ASK]
    times = set()
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip().startswith(said)
        left = list(made.glob("*"))
        assert len(left) == (not compiler), "a half-made library stays"
        times |= {path.stat().st_mtime_ns for path in left}
    assert len(times) <= 1, "compiled twice"


def cut(file: Path) -> None:
    os.truncate(file, 4096)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def exchanged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def open_to_others(file: Path) -> None:
    file.chmod(0o777)


def somebody_elses(file: Path) -> None:
    os.chown(file, 12345, 12345)


def linked(file: Path) -> None:
    elsewhere = file.with_suffix(".elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


DAMAGES = [cut, emptied, exchanged, open_to_others, linked, *([somebody_elses] if os.geteuid() == 0 else [])]


def test_kernels_that_are_not_as_they_were_made_are_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    good = build(c_compiler(), folder)
    content, name = good.read_bytes(), fingerprint(c_compiler())
    assert kept(folder, name) == good and good.stat().st_mode & 0o022 == folder.stat().st_mode & 0o022 == 0
    for damage in DAMAGES:
        damage(good)
        assert kept(folder, name) is None, damage
        good.write_bytes(content)
        good.chmod(0o700)
        assert kept(folder, name) == good
    cut(good)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK],
        env={**os.environ, "LLM_KERNELS": str(folder)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "works" and kept(folder, name)


def test_a_folder_that_others_may_write_in_is_closed_or_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(0o777)
    planted = folder / f"{fingerprint(c_compiler())}-{'0' * 64}.so"
    planted.write_bytes(b"not ours")
    assert kept(folder, fingerprint(c_compiler())) is None and not planted.exists()
    assert folder.stat().st_mode & 0o022 == 0
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
        with pytest.raises(PermissionError, match="is somebody else's; name a folder of your own in LLM_KERNELS"):
            kept(folder, fingerprint(c_compiler()))
