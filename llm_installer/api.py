"""The Python API: the same stories as the command line, as functions.

from llm_installer.api import install, lora_sft
install("tiny")
result = lora_sft(model_path="tiny", data_path="my.json", epochs=3)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_installer.core.errors import TrainingError, UsageError
from llm_installer.core.hints import program
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import no_telemetry
from llm_installer.core.state import Result
from llm_installer.planning.options import Options


def install(
    model: str, *, name: str | None = None, force: bool = False, revision: str | None = None, link: bool = False
) -> Path:
    """Give `model` (a hub id, a local folder or "tiny") a model directory, and return it."""
    from llm_installer.install.installer import install as install_model

    found: ModelDir = install_model(model, name=name, force=force, revision=revision, link=link)
    return found.root


def lora_sft(
    model_path: str | Path,
    data_path: str | Path | Sequence[str | Path] | None = None,
    *,
    callbacks: object = None,
    **options: Any,
) -> Result:
    """Fine-tune an installed model on `data_path`, or on the files that `mix` names.

    Every option of train.sh is a keyword, spelled with underscores. `callbacks` is an object, or a list of them, with
    some of the hooks on_train_begin, on_epoch_begin, on_step_begin, on_step_end, on_log, on_evaluate, on_save,
    on_epoch_end and on_train_end; each is called with a training.reporters.callbacks.Context.

    Raises InstallerError where the command line would print one sentence; UsageError for unknown keywords.
    """
    no_telemetry()
    from llm_installer.distributed.launch import wanted
    from llm_installer.train_lora import run
    from llm_installer.training.reporters.callbacks import as_callbacks
    from llm_installer.ui.console import Console

    if model_path is None:
        raise UsageError("model_path=None: name the model directory")
    given = {"model_path": model_path} | ({} if data_path is None else {"data_path": data_path})
    asked = Options.from_kwargs(**given, **options)
    if asked.show or asked.dry_run:
        raise TrainingError("show and dry_run are for the command line; leave them out")
    if asked.controlling:
        raise UsageError("status, save_now and stop_now are about another training; give them to train.sh")
    if wanted(asked):
        command = f"{program()} train --model-path DIR --data FILE --gpus 2"
        raise UsageError(f"Several GPUs need processes of their own; use the command line: {command}")
    found = run(asked, Console(), callbacks=as_callbacks(callbacks))
    if found is None:
        raise TrainingError("This is not the main process of the run, so it has no result; see the main one")
    return found.result
