"""A process that ends when the one that started it is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

PARENT = "LLM_LAUNCH_PARENT"
"""The process that started this one, and without which it should not continue."""
_PDEATHSIG = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def _end_well() -> None:
    signal.raise_signal(signal.SIGTERM)


def _nothing() -> None:
    pass


def end_with_parent(end: Callable[[], None] = _end_well) -> None:
    """`end`, by default as on SIGTERM, when the process that started this one is gone, however. Only Linux can."""
    if sys.platform != "linux" or PARENT not in os.environ:
        return
    # Linux tells of each thread of the parent that ends, and a second SIGTERM could mean: at once. Taking the one that
    # is there is a single step, which another signal cannot come into.
    once = iter([end])

    def gone(_number: int, _frame: FrameType | None) -> None:
        next(once, _nothing)()

    signal.signal(signal.SIGRTMIN, gone)
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGRTMIN)
    if os.getppid() != int(os.environ[PARENT]):  # It went before it could be watched.
        next(once, _nothing)()
