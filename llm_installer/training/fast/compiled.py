"""torch.compile for formulas: several passes over memory become one, where there is a C++ compiler.

Delete when kernels in C (cpu/native) cover float32 too: compiling is only chosen for CPUs that do not use them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import torch

from llm_installer.core.home import cache_dir

Made = TypeVar("Made")
BROKEN = (RuntimeError, OSError)
"""What a compiler that is missing, or that fails, is known by: torch's own errors are RuntimeErrors."""
RECOMPILATIONS = 64
"""Of one function in one process; torch's own 256 of all functions together hold as well."""


class Compiler:
    """Compiles each formula once, for tensors of any length and so many threads (0: all that torch has). The result is
    kept in the cache for the next run."""

    def __init__(self, threads: int = 0) -> None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))
        import torch._inductor.config as settings

        # Formulas this small are compiled sooner than processes for it have started.
        settings.compile_threads = 1
        if threads:
            settings.cpp.threads = threads
        self._made: dict[Hashable, object] = {}

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` returned when it was first asked for under this key."""
        if key not in self._made:
            self._made[key] = make()
        return cast(Made, self._made[key])

    def refusal(self) -> str:
        """Why nothing can be compiled here; empty when a small sum could."""
        x = torch.ones(2, 3)
        try:
            works = bool((compiled(_twice)(x) == 2 * x).all())
        except BROKEN as error:
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        return "" if works else "what was compiled is wrong"


def compiled(formula: Callable[..., Made]) -> Callable[..., Made]:
    """The formula, compiled at its first call, for sizes that change.

    Formulas that one function made share its code, and with it torch's limit of eight compilations, which is an error
    here: two norms of two widths with one row and with more, in two types, exceed it.
    """
    import torch._dynamo.config as settings

    settings.recompile_limit = max(settings.recompile_limit, RECOMPILATIONS)
    return torch.compile(formula, dynamic=True, fullgraph=True)


def _twice(x: torch.Tensor) -> torch.Tensor:
    return x + x
