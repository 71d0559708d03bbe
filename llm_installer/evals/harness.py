"""lm-eval on a model that is loaded already, where that package is installed (EleutherAI, lm-evaluation-harness)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import yaml

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import pip
from llm_installer.core.reading import reason
from llm_installer.core.text import short_path, shortened
from llm_installer.inference.load import Assistant

BATCH = 8
PACKAGE = "lm_eval"
_WRONG_ROWS = (LookupError, ValueError, TypeError, AttributeError)
_WRONG_TASKS = (*_WRONG_ROWS, OSError, ImportError, RuntimeError, AssertionError, yaml.YAMLError)
"""What lm-eval raises for a task whose definition is wrong, or whose data are not there."""


def check_installed() -> None:
    """Raise UsageError where lm-eval is not installed."""
    if not find_spec(PACKAGE):
        raise UsageError(f"--tasks needs lm-eval, which is not installed; install it with: {pip('lm-eval')}")


@dataclass(frozen=True)
class Harness:
    """Tasks that lm-eval has found and loaded."""

    tasks: tuple[str, ...]
    manager: object
    """lm-eval's own index of tasks."""

    def run(self, assistant: Assistant, most: int | None, seed: int) -> dict[str, float]:
        """What lm-eval finds of a model, by `task, metric`; `most` rows of each task.

        Raises UsageError for rows that lm-eval cannot read as the task says.
        """
        wrapper = import_module("lm_eval.models.huggingface").HFLM
        model = wrapper(pretrained=assistant.model, tokenizer=assistant.encoder.tokenizer, batch_size=BATCH)
        evaluate = import_module(PACKAGE).simple_evaluate
        template_error = import_module("jinja2").TemplateError
        seeds = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
        more = {"limit": most, "bootstrap_iters": 0, **dict.fromkeys(seeds, seed)}
        try:
            found = evaluate(model=model, tasks=[*self.tasks], task_manager=self.manager, **more)
        except (*_WRONG_ROWS, template_error) as error:
            raise _unusable(", ".join(self.tasks), error) from error
        return _numbers(found["results"])


def harness(tasks: Sequence[str]) -> Harness:
    """Let lm-eval find and load `tasks`, each a name or a YAML file of one, before a model is loaded.

    Raises UsageError where lm-eval is not installed, or cannot load one.
    """
    check_installed()
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # its bootstrap would fork a process that has a model loaded
    specs = tuple(_spec(each) for each in tasks)
    named = [given for given, spec in zip(tasks, specs, strict=True) if spec == given]
    manager = import_module("lm_eval.tasks").TaskManager(include_defaults=bool(named))
    datasets_error = import_module("datasets.exceptions").DatasetsError
    for given, spec in zip(tasks, specs, strict=True):
        try:
            manager.load([spec])
        except (*_WRONG_TASKS, datasets_error) as error:
            raise _unusable(given, error) from error
    return Harness(specs, manager)


def _spec(given: str) -> str:
    """What lm-eval calls a task: its name, or the file that defines it. Raises UsageError for a file that is none."""
    file = Path(given).expanduser()
    if file.suffix not in (".yaml", ".yml"):
        return given
    if not file.is_file():
        raise UsageError(f"There is no file {short_path(file)}; give a YAML file that defines a task")
    return str(file.absolute())


def _unusable(task: str, error: Exception) -> UsageError:
    why = shortened(" ".join((reason(error) or type(error).__name__).split()), 200)
    if isinstance(error, KeyError) and "not a registered" in why:
        return UsageError(f"lm-eval knows no task {task!r}; see all of them with: lm_eval ls tasks")
    return UsageError(f"lm-eval cannot use the task {task} ({why}); correct its definition, or name another one")


def _numbers(results: Mapping[str, Mapping[str, object]]) -> dict[str, float]:
    """Every number but the standard errors, which are not computed."""
    return {
        f"{task}, {metric.partition(',')[0]}": float(value)
        for task, held in results.items()
        for metric, value in held.items()
        if isinstance(value, int | float) and "stderr" not in metric and metric != "sample_len"
    }
