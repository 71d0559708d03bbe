"""The Python API: the same stories as the command line, as functions.

from llm_installer.api import install, lora_sft
install("tiny")
result = lora_sft(model_path="tiny", data_path="my.json", epochs=3)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from llm_installer.api.loading import load, load_lora_model, trainable_parameters
from llm_installer.api.rows import (
    add_task_prefix,
    create_instruct_dataset,
    curriculum_learning,
    prepare_dataset,
    text_difficulty,
)
from llm_installer.api.scores import accuracy, f1_score, rouge
from llm_installer.api.training import refuse, trained
from llm_installer.api.watching import memory_usage, training_diagnostics
from llm_installer.api.words import in_words_of_python, refuse_unknown
from llm_installer.core.errors import InstallerError
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import no_telemetry, quiet_libraries
from llm_installer.core.state import Result
from llm_installer.core.version import __version__
from llm_installer.core.voice import Silence
from llm_installer.data.python_rows import Data, as_file
from llm_installer.planning.name_rows import NAMES
from llm_installer.planning.options import Options

if TYPE_CHECKING:
    from llm_installer.evals.request import EvalOptions
    from llm_installer.evals.result import EvalResult
    from llm_installer.export.kinds import Exported, ExportOptions
    from llm_installer.export.push.request import Preview, Pushed, PushOptions
    from llm_installer.export.request import Merged

__all__ = [
    "InstallerError", "__version__", "accuracy", "add_task_prefix", "create_instruct_dataset", "curriculum_learning",
    "evaluate", "export", "f1_score",
    "install", "load", "load_lora_model", "lora_sft", "memory_usage", "merge", "prepare_dataset", "push", "rouge",
    "text_difficulty", "trainable_parameters", "training_diagnostics",
]  # fmt: skip
_DATA = ("data", "validation_data")
"""Settings that take rows in memory, too."""


def install(
    model: str, *, name: str | None = None, force: bool = False, revision: str | None = None, link: bool = False
) -> Path:
    """Give `model` (a hub id, a local folder or "tiny") a model directory, and return it. Raises InstallerError."""
    from llm_installer.install.installer import install as install_model

    given = {"name": name, "force": force, "revision": revision, "link": link}
    with in_words_of_python(given), quiet_libraries():
        found: ModelDir = install_model(model, name=name, force=force, revision=revision, link=link)
    return found.root


def merge(
    model_path: str | Path,
    *,
    run: str | None = None,
    lora: str | Path | None = None,
    to: str | Path | None = None,
    dtype: str = "auto",
    onto: str | None = None,
) -> Merged:
    """Make a stand-alone model of an installed model and what a run has taught it, and prove it; returns the new model
    with its receipt.

    `run` is the id of a run, a part of it, or "last"; `lora` the folder of any adapter; with neither it is ./lora. `to`
    is a name or a folder. `dtype` is "auto" (as the base's files), "float32", "bfloat16" or "float16". `onto` is "full"
    or "dequantised", for a run on a base in 4 or 8 bits.

    Raises InstallerError where the command line would print one sentence; nothing is left behind then.
    """
    no_telemetry()
    given = {"model_path": model_path, "run": run, "lora": lora, "to": to, "dtype": dtype, "onto": onto}
    with in_words_of_python(given), quiet_libraries():
        from llm_installer.export.merge import merge as merge_model
        from llm_installer.export.request import MergeRequest

        return merge_model(ModelDir.find(model_path), MergeRequest(run, _text(lora), _text(to), dtype, onto), Silence())


def export(
    model_path: str | Path,
    *,
    out: str | Path | None = None,
    lora: str | Path | None = None,
    **options: Unpack[ExportOptions],
) -> Exported:
    """Write an installed model, or an adapter alone, for other programs and prove it; returns the file or folder with
    its receipt.

    `to` is "gguf" (the default), "gguf-lora", "ollama" or "mlx"; `out` the file or folder; `type` "f32", "f16", "bf16",
    "q8_0" or "q4_k_m". `run` is the id of a run, a part of it, or "last"; `lora` the folder of any adapter; with
    neither it is ./lora, where there is one, and `no_lora` leaves that out. `as_adapter` keeps base and adapter apart
    for Ollama. What a kind needs must be installed, such as the package `gguf`.

    Raises InstallerError where the command line would print one sentence; nothing is left behind then.
    """
    no_telemetry()
    given = {"model_path": model_path, "out": out, "lora": lora, **options}
    with in_words_of_python(given), quiet_libraries():
        from llm_installer.export.kinds import ExportOptions, ExportRequest, export_as

        refuse_unknown(options, ExportOptions.__annotations__)
        request = ExportRequest(out=_text(out), lora=_text(lora), **options)
        return export_as(ModelDir.find(model_path), request, Silence())


def push(model_path: str | Path, repo: str | None = None, **options: Unpack[PushOptions]) -> Preview | Pushed:
    """Send an adapter of an installed model to the Hugging Face hub with a model card, after a search of every file for
    local paths, names, keys and rows; returns what was sent, which was fetched back and found equal.

    `repo` is OWNER/NAME; without it, your own, named after model and run. `run` and `lora` name the adapter as for
    `merge`. `private=True` keeps a repository that is made for it to yourself; `merged=True` sends a stand-alone model,
    `gguf=True` that as a GGUF file; `dry_run=True` sends nothing and returns the card and the files.

    Raises InstallerError where the command line would print one sentence; nothing is committed then.
    """
    no_telemetry()
    with in_words_of_python({"model_path": model_path, "repo": repo, **options}), quiet_libraries():
        from llm_installer.export.push.request import asked
        from llm_installer.export.push.story import push as push_model

        request = asked(repo, options)
        return push_model(ModelDir.find(model_path), request, Silence())


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def lora_sft(
    model_path: str | Path | None = None,
    data_path: Data | None = None,
    *,
    callbacks: object = None,
    **options: Any,
) -> Result:
    """Fine-tune an installed model on `data_path`, or on the files that `mix` names.

    `data_path` and `validation_data` are files, folders and the like, or rows in memory: a list of dicts. Every option
    of train.sh is a keyword, spelled with underscores; names that other trainers use are understood, too
    (docs/reference/other-names.md). `callbacks` is an object, or a list of them, with some of the hooks on_train_begin,
    on_epoch_begin, on_step_begin, on_step_end, on_log, on_evaluate, on_save, on_epoch_end and on_train_end; each is
    called with a training.reporters.callbacks.Context. In a script that torchrun started, all its processes train
    together; the first one speaks, writes and calls the callbacks, and all return the same Result.

    Raises InstallerError where the command line would print one sentence; UsageError for unknown keywords.
    """
    no_telemetry()
    named = {"model_path": model_path, "data_path": data_path}
    given = {name: value for name, value in named.items() if value is not None} | options
    with in_words_of_python(given), quiet_libraries():
        asked = Options.from_kwargs(**{name: _on_disk(name, value) for name, value in given.items()})
        refuse(asked)
        return trained(asked, callbacks)


def evaluate(model_path: str | Path, data_path: Data | None = None, **options: Unpack[EvalOptions]) -> EvalResult:
    """Evaluate the base of an installed model and adapters on it on the rows of `data_path`, and return what was found;
    it is written below `evals` of the model directory, too.

    `run` names runs by id, a part of it or "last", `lora` folders of adapters, each one or several; without either,
    ./lora is evaluated, if there is one. `base=False` leaves the base out. `task` is "auto", "answers", "choices" or
    "text"; `tasks` names tasks of lm-eval, where that is installed. `max_new_tokens`, `max_examples`, `seed`,
    `dataset_format`, `columns` and `answers_as` are what they are on the command line.

    Raises InstallerError where the command line would print one sentence.
    """
    from llm_installer.evals.request import asked
    from llm_installer.evals.story import evaluate as run_evaluation

    no_telemetry()
    with in_words_of_python(options), quiet_libraries():
        request = asked(_on_disk("data", data_path), options)
        return run_evaluation(ModelDir.find(model_path), request, Path.cwd(), Silence())


def _on_disk(name: str, value: object) -> object:
    """The value of a keyword, with rows in memory as a file."""
    own = NAMES[name].own if name in NAMES else name
    return as_file(value) if own in _DATA else value
