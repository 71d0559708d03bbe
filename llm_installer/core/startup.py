"""Start-up: telemetry off, libraries quiet, and fewer garbage collections while imports create objects that stay."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, wraps
from typing import Any

from llm_installer.core.garbage import RARELY

NO_TELEMETRY = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""Read by each library once, when it is imported: the usage reports of the hub's client and of MLflow, and the crash
reports of W&B."""

LIBRARIES = ("bitsandbytes", "transformers", "peft", "accelerate", "torch")
"""Libraries that warn their programmers; our users can do nothing about that."""

_raised: list[tuple[int, int, int]] = []
"""The thresholds of garbage collection before `begin`, until `ready`."""


def no_telemetry() -> None:
    """Switch off what libraries report about their users; every way into this program calls it first.

    What the user has set stays. In somebody else's program the hub's client may be imported already, and has read its
    variable: then its constant is set instead.
    """
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    if "huggingface_hub" in sys.modules and os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1":
        from huggingface_hub import constants

        constants.HF_HUB_DISABLE_TELEMETRY = True


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No warnings of libraries for as long as this lasts; those of the caller's own code are as they were."""
    loggers = {logger: logger.level for logger in map(logging.getLogger, LIBRARIES)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for name in (*LIBRARIES, "llm_installer"):
            warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
        for logger, level in loggers.items():
            logger.setLevel(max(level, logging.ERROR))
        try:
            yield
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)


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
    they are compiled when they are first called. Delete when `import bitsandbytes` no longer imports torch._dynamo.
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


def _compiled_when_called(function: Callable[..., object] | None = None, **options: Any) -> Callable[..., object]:
    """Stands in for torch.compile as a decorator, with and without arguments."""
    if function is None:
        return partial(_compiled_when_called, **options)

    @cache
    def compiled() -> Callable[..., object]:
        import torch

        return torch.compile(function, **options)

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        return compiled()(*args, **kwargs)

    return call
