"""Examples as training uses them: plain text in pieces, prompts with the name of their task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from llm_installer.core.arrays import Indices
from llm_installer.core.examples import Example
from llm_installer.data.store.arrow import ExampleView

_WORD = re.compile(r"\S+")


def prefixed(example: Example, name: str) -> Example:
    """The example with `[name] ` before its first user turn; plain text, which has none, gets it before the text."""
    spoken = "assistant" if example.kind == "text" else "user"
    for i, turn in enumerate(example.messages):
        if turn.role == spoken:
            marked = replace(turn, content=f"[{name}] {turn.content}")
            return replace(example, messages=(*example.messages[:i], marked, *example.messages[i + 1 :]))
    return example


def file_codes(examples: Sequence[Example]) -> tuple[tuple[str, ...], Indices]:
    """The files that the examples come from, and the index of its file for each example; no example is read."""
    match examples:
        case Pieces():
            names, codes = file_codes(examples.examples)
            return names, codes[examples.source]
        case Prefixed():
            return file_codes(examples.examples)
        case ExampleView():
            names, codes = examples.store.file_codes()
            return names, codes[examples.indices]
    found, places = np.unique([example.origin.file for example in examples], return_inverse=True)
    return tuple(found.tolist()), places


class Pieces(Sequence[Example]):
    """Examples with each plain text split into pieces of a number of words; other examples stay whole.

    Joined, the pieces are the text: space stays with the word before it.
    """

    def __init__(self, examples: Sequence[Example], words: int) -> None:
        self.examples = examples
        source: list[int] = []
        bounds: list[tuple[int, int]] = []
        self.texts = 0
        """How many plain texts there are."""
        for i, example in enumerate(examples):
            found = _bounds(example.messages[0].content, words) if example.kind == "text" else [(0, 0)]
            self.texts += example.kind == "text"
            source += [i] * len(found)
            bounds += found
        self.source: Indices = np.array(source, dtype=np.int64)
        """Index of the example that each piece comes from."""
        self._bounds = np.array(bounds, dtype=np.int64).reshape(-1, 2)
        self._last: tuple[int, Example] | None = None

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        example = self._whole(int(self.source[index]))
        if example.kind != "text":
            return example
        start, end = self._bounds[index].tolist()
        turn = example.messages[0]
        last = end == len(turn.content) and example.ends
        return replace(example, messages=(replace(turn, content=turn.content[start:end]),), ends=last)

    def _whole(self, source: int) -> Example:
        # Pieces are read in order: without this a long text would be read again for each of them.
        if self._last is None or self._last[0] != source:
            self._last = (source, self.examples[source])
        return self._last[1]


class Prefixed(Sequence[Example]):
    """Examples with the name of their file's task before their prompt."""

    def __init__(self, examples: Sequence[Example], tasks: Mapping[str, str]) -> None:
        self.examples = examples
        self.tasks = tasks
        """Names of tasks by file."""

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Prefixed: ...
    def __getitem__(self, index: int | slice) -> Example | Prefixed:
        if isinstance(index, slice):
            return Prefixed(self.examples[index], self.tasks)
        example = self.examples[index]
        task = self.tasks.get(example.origin.file)
        return prefixed(example, task) if task else example


def _bounds(text: str, words: int) -> list[tuple[int, int]]:
    """(start, end) of each piece: cut at the first letter of every `words`-th word, the last piece possibly shorter."""
    starts = [word.start() for i, word in enumerate(_WORD.finditer(text)) if i % words == 0]
    return list(zip([0, *starts[1:]], [*starts[1:], len(text)], strict=True))
