"""What a story may say while it works. It draws nothing: whoever called it decides how that looks, or keeps silent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int], None]
"""Told (done, total)."""
STARTING = "Starting"
"""What is said while libraries are loaded, which takes seconds."""


class Voice(Protocol):
    """Told what takes a while, and what each step of a story returned."""

    @property
    def rich(self) -> Console:
        """What progress bars are drawn on."""

    def line(self, text: str = "") -> None:
        """A sentence of its own."""

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """Something that takes a moment, for as long as it lasts."""

    def progress(self, what: str) -> AbstractContextManager[Progress]:
        """Something long, of which it is known how much is done."""

    def show(self, found: object) -> None:
        """What a step returned: a Job, an Outcome, ..."""


class Silence:
    """A voice that says nothing: for programs and tests."""

    @property
    def rich(self) -> Console:
        """A console that prints nothing."""
        from rich.console import Console

        return Console(quiet=True)

    def line(self, text: str = "") -> None:
        """Nothing."""

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def progress(self, what: str) -> AbstractContextManager[Progress]:
        """Nothing."""
        return nullcontext(lambda done, total: None)

    def show(self, found: object) -> None:
        """Nothing."""
