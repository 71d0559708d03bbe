"""The seconds between a command and its work: imports make a million objects that stay, and start compilers."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

from llm_installer.core.garbage import RARELY

_raised: list[tuple[int, int, int]] = []
"""The thresholds of garbage collection before `begin`, until `ready`."""


def begin() -> None:
    """For a program, first of all: to look for garbage again and again among what is imported takes a third of it."""
    if not _raised:
        _raised.append(gc.get_threshold())
        gc.set_threshold(RARELY, *_raised[0][1:])


def ready() -> None:
    """Everything is loaded: from here on garbage is looked for as usual, but not among what is there already.

    Does nothing without `begin`: in somebody else's program what is garbage now must not be kept for ever.
    """
    if _raised:
        gc.freeze()
        gc.set_threshold(*_raised.pop())


def import_bitsandbytes() -> None:
    """Import bitsandbytes, as peft does wherever it is installed, without torch's compiler.

    Some of its kernels are decorated with torch.compile, and that takes a second even if none of them ever runs; here
    they are compiled when they are first called.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    import torch

    usual = torch.compile
    torch.compile = _compiled_when_called  # type: ignore[assignment]
    try:
        import bitsandbytes  # noqa: F401
    finally:
        torch.compile = usual


def _compiled_when_called(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    if function is None:
        return partial(_compiled_when_called, **options)

    @cache
    def compiled() -> Callable[..., Any]:
        import torch

        return torch.compile(function, **options)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return call
