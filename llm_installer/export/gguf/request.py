"""What is asked of an export, and what comes of it; nothing of this needs the `gguf` package."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import InstallerError
from llm_installer.core.hints import pip
from llm_installer.export.gguf.receipt import LIMITS, FileReceipt

KINDS = tuple(LIMITS)
"""The types that weights can be stored in."""


@dataclass(frozen=True)
class GgufRequest:
    """What is exported, and into what."""

    out: str | None = None
    """The file; None for <name>-<type>.gguf in the model directory."""
    type: str = "f16"
    """One of KINDS."""
    no_lora: bool = False
    """Whether the model is meant without its adapter."""


@dataclass(frozen=True)
class Exported:
    """A GGUF file that was compared with the model."""

    file: Path
    receipt_file: Path
    name: str
    """Of the model."""
    bytes: int
    receipt: FileReceipt
    indivisible: tuple[str, ...] = ()
    """Tensors that are f16, since their rows cannot be cut into blocks."""
    notes: tuple[str, ...] = ()
    """What whoever uses it should know, a sentence each."""


def require_gguf() -> None:
    """Raise InstallerError where the package that writes such files is not installed."""
    if importlib.util.find_spec("gguf") is None:
        raise InstallerError(f"GGUF files are written with the package gguf; install it with: {pip('gguf')}")
