"""The story of an evaluation: rows, systems one after the other on one base, numbers, verdicts, files.

Run as: llm-installer eval MODEL --data test.jsonl --run last
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from llm_installer.core.errors import AdapterError, DataError, UsageError
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import import_bitsandbytes, ready
from llm_installer.core.voice import Voice
from llm_installer.evals.groups import groups_of
from llm_installer.evals.harness import Harness, harness
from llm_installer.evals.items import Item, Items, read_items
from llm_installer.evals.request import TASKS, EvalRequest, System, systems
from llm_installer.evals.result import EvalResult
from llm_installer.evals.scores import column, notes_of, score
from llm_installer.evals.system import Limits, Passed, first_prompt, limits, run_system
from llm_installer.evals.verdicts import clusters_of, compare, flips
from llm_installer.evals.writing import write
from llm_installer.inference.load import INSTEAD, Assistant, assistants
from llm_installer.inference.start import ANOTHER
from llm_installer.planning.chooser import most_tokens
from llm_installer.planning.method import QUANTISED, base_quantisation
from llm_installer.planning.registry import find_handler


def evaluate(folder: ModelDir, request: EvalRequest, base: Path, voice: Voice) -> EvalResult:
    """Evaluate base and adapters on the same rows, and write what was found below `evals` of the model directory.

    Relative paths are below `base`. Raises UsageError, DataError, ModelError and AdapterError, all before the first
    weight is read; DiskError where the result cannot be written.
    """
    if request.task not in TASKS:
        raise UsageError(f"There is no task {request.task!r}; there are {', '.join(TASKS)}")
    chosen = systems(folder, request)
    tasks = None
    if request.tasks:
        with voice.waiting("Finding the tasks"):
            tasks = harness(request.tasks)
    items = Items((), ())
    if request.data or not request.tasks:
        with voice.waiting("Reading the data"):
            items = read_items(request, base)
        if not items.rows:
            raise DataError("There is no row to evaluate on; name other data with --data")
    found, told = _run(folder, request, (chosen, tasks), items, voice)
    folder_of_result = folder.new_eval(datetime.now())
    return write(replace(found, folder=folder_of_result), *told)


def _run(
    folder: ModelDir,
    request: EvalRequest,
    asked: tuple[Sequence[System], Harness | None],
    items: Items,
    voice: Voice,
) -> tuple[EvalResult, tuple[Sequence[Passed], Sequence[Item]]]:
    """What the systems say, one after the other; and what of it is written row by row."""
    chosen, given = asked
    info = read_model_info(folder.weights, folder.root.name)
    positions = most_tokens(info, find_handler(info))
    passes: list[Passed] = []
    tasks: dict[str, dict[str, float]] = {}
    limit, prompt = Limits(positions, 1), ""
    with voice.waiting("Loading the model"):
        import_bitsandbytes()
        turns = assistants(folder, [one.lora for one in chosen], request.quantised)
    for one in chosen:
        with voice.waiting(f"Loading {one.name}"):
            assistant = _next(turns)
        ready()
        if items.rows:
            if not passes:
                limit = limits(assistant.encoder, items.rows, positions, request.max_new_tokens)
                prompt = first_prompt(assistant.encoder, items.rows)
            passes.append(run_system(one.name, assistant, items.rows, limit, voice))
        if given:
            with voice.waiting(f"{one.name}: {', '.join(request.tasks)}"):
                tasks[one.name] = given.run(assistant, request.max_examples, request.seed)
    shown, kind = ", ".join(request.data), base_quantisation(request.quantised, info)
    held = (f"the base is held in {QUANTISED[kind]}",) if kind else ()
    empty = EvalResult(Path(), folder.root.name, shown, len(items.rows), (), (), prompt, tasks=tasks, notes=held)
    if not passes:
        return empty, ((), ())
    return _judged(empty, passes, items, request.seed, limit), (passes, items.rows)


def _next(turns: Iterator[Assistant]) -> Assistant:
    """The next system, ready to answer. Raises AdapterError in the words of this command."""
    try:
        return next(turns)
    except AdapterError as error:
        raise AdapterError(str(error).replace(INSTEAD, ANOTHER)) from None


def _judged(found: EvalResult, passes: Sequence[Passed], items: Items, seed: int, limit: Limits) -> EvalResult:
    """The result with numbers and verdicts."""
    scored = [score(one, items.rows) for one in passes]
    differences, intervals = compare(scored, clusters_of(items.rows), seed)
    return replace(
        found,
        columns=tuple(column(one, own) for one, own in zip(scored, intervals, strict=True)),
        differences=tuple(differences),
        groups=tuple(groups_of(scored, items.rows)),
        flips=tuple(flips(scored, items.rows)),
        notes=(*found.notes, *items.notes, *notes_of(scored, limit.answer)),
    )
