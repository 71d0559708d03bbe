"""LLM_HOME: where models and caches are kept, and the names of the models that are installed there."""

from __future__ import annotations

import os
from pathlib import Path

from llm_installer.core.errors import UsageError
from llm_installer.core.user_config import HOME, read_user_config


def llm_home() -> Path:
    """LLM_HOME, else what `config set home` says, else ~/LLM. Raises UsageError where that file is damaged."""
    chosen = os.environ.get("LLM_HOME") or read_user_config().get(HOME) or Path.home() / "LLM"
    return Path(os.path.expanduser(chosen)).absolute()  # Path.expanduser fails where there is nobody of that name


def models_dir() -> Path:
    """Where model directories are made."""
    return llm_home() / "models"


def model_names() -> list[str]:
    """The names of the installed models, in order; of some it may be that only their rights are in the way of knowing.
    Raises OSError where the folder cannot be read."""
    folder = models_dir()
    return sorted(n for n in (os.listdir(folder) if folder.is_dir() else ()) if n[0] != "." and _has_record(folder / n))


def known_names() -> list[str]:
    """The same for a hint, which is worth no error: what cannot be known is left out."""
    try:
        return model_names()
    except (OSError, UsageError):
        return []


def _has_record(root: Path) -> bool:
    """Whether a model was installed there, or its rights let nobody know."""
    try:
        return (root / "model_info.json").is_file()
    except PermissionError:
        return True


def cache_dir() -> Path:
    """Where encoded datasets and compiled kernels are kept; safe to delete."""
    return llm_home() / "cache"


def keep_triton_kernels() -> None:
    """Let Triton keep what it compiles there, too, unless the user has said where: in ~/.triton it would be lost with
    the home folder of a container, and each run would compile for seconds again."""
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache_dir() / "triton"))
