"""lm-eval on a model that is loaded already, where that package is installed (EleutherAI, lm-evaluation-harness)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import yaml

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import pip
from llm_installer.core.text import short_path
from llm_installer.inference.load import Assistant

BATCH = 8
PACKAGE = "lm_eval"


def check_installed() -> None:
    """Raise UsageError where lm-eval is not installed."""
    if not find_spec(PACKAGE):
        raise UsageError(f"--tasks needs lm-eval, which is not installed; install it with: {pip('lm-eval')}")


def run_tasks(assistant: Assistant, tasks: Sequence[str], most: int | None, seed: int) -> dict[str, float]:
    """What lm-eval finds on `tasks`, by `task, metric`; `most` rows of each. A task is a name, or a YAML file of one.

    Raises UsageError for a file that names no task.
    """
    check_installed()
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # its bootstrap would fork a process that has a model loaded
    names, folders = _names(tasks)
    wrapper = import_module("lm_eval.models.huggingface").HFLM
    manager = import_module("lm_eval.tasks").TaskManager(include_path=folders or None)
    model = wrapper(pretrained=assistant.model, tokenizer=assistant.encoder.tokenizer, batch_size=BATCH)
    found = import_module(PACKAGE).simple_evaluate(
        model=model,
        tasks=names,
        task_manager=manager,
        limit=most,
        bootstrap_iters=0,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    return _numbers(found["results"])


def _names(tasks: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the names of the tasks, the folders of those that are files)."""
    names: list[str] = []
    folders: list[str] = []
    for given in tasks:
        file = Path(given).expanduser()
        if file.suffix not in (".yaml", ".yml"):
            names.append(given)
            continue
        try:
            held = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            raise UsageError(f"{short_path(file)} cannot be read as YAML; give a file that defines a task") from None
        name = held.get("task") if isinstance(held, Mapping) else None
        if not isinstance(name, str):
            raise UsageError(f"{short_path(file)} names no task; add a line such as: task: my_task")
        names.append(name)
        folders.append(str(file.parent.absolute()))
    return names, list(dict.fromkeys(folders))


def _numbers(results: Mapping[str, Mapping[str, object]]) -> dict[str, float]:
    """Every number but the standard errors, which are not computed."""
    return {
        f"{task}, {metric.partition(',')[0]}": float(value)
        for task, held in results.items()
        for metric, value in held.items()
        if isinstance(value, int | float) and "stderr" not in metric and metric != "sample_len"
    }
