"""The thought at the beginning of an answer, told from what is said after it while both come in pieces."""

from __future__ import annotations

from collections.abc import Callable

from llm_installer.data.encoding.thought_forms import ThoughtForm

Pieces = tuple[str, str]
"""Some more of the thought, and of what is said."""


class Apart:
    """Takes one answer apart."""

    def __init__(self, form: ThoughtForm, opened: bool) -> None:
        """`opened`: the prompt ends within a thought."""
        self._form, self._opened = form, opened
        self._at: Callable[[], Pieces] = self._in_thought if opened else self._at_start
        self._held = ""

    def add(self, text: str) -> Pieces:
        """Some more of the answer; returns what is certain."""
        self._held += text
        thought = said = ""
        while self._held:
            at = self._at
            some, more = at()
            thought, said = thought + some, said + more
            if self._at == at:
                break
        return thought, said

    def end(self) -> Pieces:
        """It has ended; returns what was held back."""
        held, self._held = self._held, ""
        if self._at == self._in_thought:
            return held.rstrip(), ""
        return "", held.lstrip() if self._at == self._behind_thought else held

    def _at_start(self) -> Pieces:
        bare = self._held.lstrip()
        for mark, then in ((self._form.before, self._in_thought), (self._form.head, self._saying)):
            if mark and bare.startswith(mark):
                self._held, self._at, self._opened = bare[len(mark) :], then, True
                return "", ""
        if any(mark.startswith(bare) for mark in (self._form.before, self._form.head) if mark):
            return "", ""
        self._at = self._saying
        return "", ""

    def _in_thought(self) -> Pieces:
        if self._opened:  # the first of it
            self._held = self._held.lstrip()
            self._opened = not self._held
        mark, held = self._form.after, self._held
        found = held.find(mark)
        if found >= 0:
            self._held, self._at = held[found + len(mark) :], self._behind_thought
            return held[:found].rstrip(), ""
        may = next((n for n in range(min(len(held), len(mark) - 1), 0, -1) if mark.startswith(held[-n:])), 0)
        certain = held[: len(held) - may].rstrip()
        self._held = held[len(certain) :]
        return certain, ""

    def _behind_thought(self) -> Pieces:
        self._held = self._held.lstrip()
        if self._held:
            self._at = self._saying
        return "", ""

    def _saying(self) -> Pieces:
        said, self._held = self._held, ""
        return "", said
