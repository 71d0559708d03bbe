"""What an adapter alone can be written as: one file of this room each, which has a FORM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from llm_installer.core.model_info import ModelInfo
from llm_installer.export.pairs.pairs import Pair
from llm_installer.export.subject import Subject

_FILES = {"gguf-lora": "gguf", "mlx": "mlx"}
"""The file of each; only the one that is meant is imported, since they need different packages."""


@dataclass(frozen=True)
class Form:
    """One of them."""

    where: str
    """What it is, in the middle of a sentence."""
    ending: str
    """Of the name of the file or folder, after those of model and run."""
    refuse: Callable[[ModelInfo], None]
    """Raises ModelError for a family that it is not for."""
    write: Callable[[ModelInfo, Mapping[str, Pair], Path, str], None]
    read: Callable[[ModelInfo, Path], dict[str, Pair]]
    commands: Callable[[Subject, Path], tuple[str, ...]]
    """What to type to use it."""
    allowed: tuple[str, ...] = ()
    """What it can say beside two matrices."""


def form_of(kind: str) -> Form:
    """The form of that name in kinds.KINDS."""
    return cast(Form, import_module(f"llm_installer.export.pairs.{_FILES[kind]}").FORM)
