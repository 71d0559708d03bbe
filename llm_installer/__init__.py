"""LLM Installer: give a model a folder, train a LoRA on your data, keep what it learned.

Importing this package imports no torch; each function loads what it needs when it is first used. `install` and `export`
are names of rooms here, so those two functions are in llm_installer.api alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_installer.api import (
        InstallerError,
        __version__,
        accuracy,
        add_task_prefix,
        create_instruct_dataset,
        curriculum_learning,
        evaluate,
        f1_score,
        load,
        load_lora_model,
        lora_sft,
        memory_usage,
        merge,
        prepare_dataset,
        push,
        rouge,
        text_difficulty,
        trainable_parameters,
        training_diagnostics,
    )

__all__ = [
    "InstallerError", "__version__", "accuracy", "add_task_prefix", "create_instruct_dataset", "curriculum_learning",
    "evaluate", "f1_score", "load", "load_lora_model", "lora_sft", "memory_usage", "merge",
    "prepare_dataset", "push", "rouge", "text_difficulty", "trainable_parameters", "training_diagnostics",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("llm_installer.api"), name)


def __dir__() -> list[str]:
    return [*__all__]
