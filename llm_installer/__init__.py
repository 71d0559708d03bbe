"""LLM Installer: give a model a folder, train a LoRA on your data, keep what it learned.

Importing this package imports no torch; lora_sft loads what it needs when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_installer.core.version import __version__

if TYPE_CHECKING:
    from llm_installer.api import evaluate, lora_sft
    from llm_installer.core.errors import InstallerError

__all__ = ["InstallerError", "__version__", "evaluate", "lora_sft"]


def __getattr__(name: str) -> Any:
    if name == "lora_sft":
        from llm_installer.api import lora_sft

        return lora_sft
    if name == "evaluate":
        from llm_installer.api import evaluate

        return evaluate
    if name == "InstallerError":
        from llm_installer.core.errors import InstallerError

        return InstallerError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__]
