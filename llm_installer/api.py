"""The Python API: the same stories as the command line, as functions.

from llm_installer.api import install, lora_sft
install("tiny")
result = lora_sft(model_path="tiny", data_path="my.json", epochs=3)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_installer.core.errors import TrainingError
from llm_installer.core.paths import ModelDir
from llm_installer.core.state import Result
from llm_installer.planning.options import Options


def install(
    model: str, *, name: str | None = None, force: bool = False, revision: str | None = None, link: bool = False
) -> Path:
    """Give `model` (a hub id, a local folder or "tiny") a model directory, and return it."""
    from llm_installer.install.installer import install as install_model

    found: ModelDir = install_model(model, name=name, force=force, revision=revision, link=link)
    return found.root


def lora_sft(model_path: str | Path, data_path: str | Path | None = None, **options: Any) -> Result:
    """Fine-tune an installed model on `data_path`, or on the files that `mix` names.

    Every option of train.sh is a keyword, spelled with underscores.

    Raises InstallerError where the command line would print one sentence; UsageError for unknown keywords.
    """
    from llm_installer.train_lora import run

    result = run(Options.from_kwargs(model_path=str(model_path), data=data_path and str(data_path), **options))
    if result is None:
        raise TrainingError("Nothing was trained: show and dry_run only look; leave them out")
    return result
