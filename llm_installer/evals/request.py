"""What is to be evaluated, as the user named it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypedDict, cast

from llm_installer.core.errors import AdapterError, UsageError
from llm_installer.core.hints import suggest
from llm_installer.core.paths import ModelDir
from llm_installer.inference.start import ANOTHER, chosen_lora
from llm_installer.planning.options import Options
from llm_installer.planning.settings import built, checked
from llm_installer.runs.listing import find_run

TASKS = ("auto", "answers", "choices", "text")
"""What is done with the rows: as each of them is, or all answered, ranked, or only their losses computed."""
BASE = "base"
_BITS = {"use_4bit": "nf4", "use_8bit": "int8"}
_OF_DATA = ("dataset_format", "columns", "answers_as", "seed")
"""What training reads its data by, too."""


@dataclass(frozen=True)
class EvalRequest:
    """What to evaluate on what, and how."""

    data: tuple[str, ...] = ()
    """Files, folders, patterns and hub ids, as --data takes them."""
    run: tuple[str, ...] = ()
    """Ids of runs, parts of them, or `last`."""
    lora: tuple[str, ...] = ()
    """Folders of adapters."""
    base: bool = True
    """Whether the base model alone is evaluated, too."""
    quantised: str = ""
    """A name of planning.method.QUANTISED; empty for the base as it is."""
    task: str = "auto"
    """One of TASKS."""
    tasks: tuple[str, ...] = ()
    """Tasks of lm-eval: names, or YAML files."""
    max_new_tokens: int | None = None
    """Longest answer; None for twice the longest reference."""
    max_examples: int | None = None
    """So many rows, chosen by the seed."""
    seed: int = 42
    dataset_format: str | None = None
    columns: str | None = None
    answers_as: str = "text"


class EvalOptions(TypedDict, total=False):
    """What may be said about an evaluation in Python; the fields of EvalRequest say what each means."""

    run: str | Sequence[str]
    lora: str | Path | Sequence[str | Path]
    base: bool
    use_4bit: bool
    use_8bit: bool
    task: Literal["auto", "answers", "choices", "text"]
    tasks: str | Sequence[str]
    max_new_tokens: int | None
    max_examples: int | None
    seed: int
    dataset_format: str | None
    columns: str | None
    answers_as: Literal["text", "json"]


def asked(data: object, options: Mapping[str, object]) -> EvalRequest:
    """The request of keywords, in which one text stands for a list of one. Raises UsageError for unknown keywords."""
    known = [f.name for f in fields(EvalRequest) if f.name != "quantised"]
    values: dict[str, object] = {"data": data, "quantised": _quantised(options)}
    for name, value in options.items():
        if name in _BITS:
            continue
        if name not in known:
            raise UsageError(f"There is no option {name!r}{suggest(name, [*known, *_BITS])}")
        values[name] = value
    for name in _OF_DATA:
        if name in options:
            values[name] = checked(Options, name, options[name], name)
    for name in ("data", "run", "lora", "tasks"):
        values[name] = _several(values.get(name))
    for name in ("max_new_tokens", "max_examples"):
        number = values.get(name)
        if number is not None and (type(number) is not int or number < 1):
            raise UsageError(f"{name}={number!r}: it must be a whole number from 1")
    return built(EvalRequest, values)


def _quantised(options: Mapping[str, object]) -> str:
    """How the base is held, as the switches say. Raises UsageError where both are on, or one is no switch."""
    for name in _BITS:
        if not isinstance(value := options.get(name, False), bool):
            raise UsageError(f"{name}={value!r}: it must be True or False")
    on = [kind for name, kind in _BITS.items() if options.get(name)]
    if len(on) > 1:
        raise UsageError("--use-4bit and --use-8bit contradict each other; give one of them")
    return on[0] if on else ""


def _several(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, cast(Sequence[object], value)))


@dataclass(frozen=True)
class System:
    """One thing that is evaluated: the base alone, or with an adapter on it."""

    name: str
    """`base`, `run <id>`, or the adapter's folder."""
    lora: Path | None = None


def systems(folder: ModelDir, request: EvalRequest) -> list[System]:
    """What is evaluated, the base first; without a run or an adapter that is named, ./lora.

    Raises UsageError where one is named twice or nothing is left, and AdapterError for a run without an adapter.
    """
    found = [System(BASE)] if request.base else []
    for words in request.run:
        row = find_run(folder, words)
        if not row.usable:
            raise AdapterError(f"Run {row.run.id} ({row.status}) has no adapter; name another run with --run")
        found.append(System(f"run {row.run.id}", row.adapter.resolve()))
    for given in request.lora:
        found.append(System(given, chosen_lora(folder, given, False, ANOTHER)))
    if not request.run and not request.lora and (lora := chosen_lora(folder, None, False, ANOTHER)):
        found.append(System(_of_a_run(folder, lora), lora))
    _refuse_twins(found)
    if not found:
        raise UsageError(
            "There is nothing to evaluate: --no-base leaves the base out, and no adapter is named; add --run"
        )
    return found


def _of_a_run(folder: ModelDir, lora: Path) -> str:
    """What ./lora is called: by the run that it belongs to, where it does."""
    return f"run {lora.parent.name}" if lora.parent.parent == folder.runs.resolve() else "./lora"


def _refuse_twins(found: Sequence[System]) -> None:
    seen: dict[Path | None, str] = {}
    for one in found:
        if one.lora in seen:
            raise UsageError(f"{one.name} and {seen[one.lora]} are the same adapter; name each once")
        seen[one.lora] = one.name
