"""Data in Python: rows as lists of dicts, which `lora_sft` and `evaluate` take like files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from llm_installer.api.words import in_words_of_python
from llm_installer.core.errors import UsageError
from llm_installer.data.python_rows import (
    Data,
    Record,
    in_order,
    records_of,
    shuffled,
    some_records,
    texts_of,
    with_prefix,
)

__all__ = ["add_task_prefix", "create_instruct_dataset", "curriculum_learning", "prepare_dataset", "text_difficulty"]


def prepare_dataset(
    source: str | Path, text_field: str = "text", chunk_size: int = 0, file_type: str | None = None
) -> list[Record]:
    """Plain texts to train on, as rows {"text": ...}: stripped, without empty ones and exact copies, in their order.

    `source` is a file, a folder or whatever else --data takes; `text_field` names the column of CSV and JSON files that
    holds the text. With `chunk_size` each text is cut into pieces of so many words. `file_type`, such as "csv" or
    "txt", says how a file is read whose name does not, or which files of a folder are meant.

    Raises DataError where nothing can be read, or a record has no such field.
    """
    if type(chunk_size) is not int or chunk_size < 0:
        raise UsageError(f"chunk_size={chunk_size!r}: it must be a whole number of words, or 0 to cut nothing")
    with in_words_of_python({}):
        return [{"text": text} for text in texts_of(source, text_field, chunk_size, file_type)]


def create_instruct_dataset(max_num_examples: int, tasks_list: Sequence[str | Path], seed: int = 42) -> list[Record]:
    """Rows of several tasks, shuffled by the seed: of each task the first `max_num_examples` that can be trained on.

    A task is a file, a folder or a dataset on the hub, whatever its format. Raises DataError where one cannot be read.
    """
    if type(max_num_examples) is not int or max_num_examples < 1:
        raise UsageError(f"max_num_examples={max_num_examples!r}: it must be a whole number from 1")
    if isinstance(tasks_list, str | Path):
        raise UsageError(f"tasks_list={str(tasks_list)!r}: it must be a list; put a single task into one: [task]")
    with in_words_of_python({}):
        return shuffled([row for task in tasks_list for row in some_records(str(task), max_num_examples)], seed)


def add_task_prefix(example: Mapping[str, object], task_name: str) -> Record:
    """The row with `[TASK:<name>] ` before its text, its prompt or its first question.

    For whole files there is `lora_sft(..., task_prefix={"a.json": "NAME"})`, which puts `[NAME] ` there.
    """
    if not task_name.strip():
        raise UsageError("task_name is empty; name the task")
    return with_prefix(example, f"[TASK:{task_name}]")


def text_difficulty(text: str) -> int:
    """The number of words of a text: longer is harder."""
    return len(text.split())


def curriculum_learning(dataset: Data, difficulty_fn: Callable[[str], float] = text_difficulty) -> list[Record]:
    """Rows from easy to hard, as `difficulty_fn` rates the text of each; rows that are rated equal keep their order.

    `dataset` is a list of rows, or what --data takes. Train on them in this order with
    `lora_sft(model, rows, order="given")`. Raises UsageError where the function returns no number, and DataError where
    files cannot be read.
    """
    with in_words_of_python({}):
        return in_order(records_of(dataset), difficulty_fn)
