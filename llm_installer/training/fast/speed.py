"""Which of the fast paths a model can take: they are put on, said in a sentence each, and taken off again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peft import PeftModel

from llm_installer.training.fast.chosen import fuse_kernels
from llm_installer.training.fast.compiled import Compiler
from llm_installer.training.fast.cpu.attention import choose_attention
from llm_installer.training.fast.lora import fuse_lora
from llm_installer.training.fast.pointwise import fuse_pointwise


@dataclass(frozen=True)
class Speedup:
    """What was replaced on a model."""

    notes: tuple[str, ...]
    """A sentence for each thing done, and for each thing not done why."""
    _undo: tuple[Callable[[], None], ...]

    def undo(self) -> None:
        """Give every module its own forward back."""
        for take_back in self._undo:
            take_back()


def speed_up(model: PeftModel, compiling: bool = False, threads: int = 0, kernels: bool = True) -> Speedup:
    """Replace the forwards of modules by equal, faster ones, some of them compiled, for so many threads, where that is
    wished for and works.

    `kernels` is whether libraries of kernels may be used. Weights, names and configuration stay as they are.
    """
    undo, notes = fuse_lora(model)
    compiler = Compiler(threads) if compiling else None
    refused = compiler.refusal() if compiler else ""
    if refused:
        notes, compiler = [*notes, f"nothing is compiled: {refused}"], None
    ways: tuple[Callable[[], tuple[list[Callable[[], None]], list[str]]], ...] = (
        lambda: fuse_kernels(model, kernels),
        lambda: fuse_pointwise(model, compiler),
        lambda: choose_attention(model, kernels),
    )
    for way in ways:
        more, said = way()
        undo, notes = [*undo, *more], [*notes, *said]
    return Speedup(tuple(notes), tuple(undo))
