"""Tokens to text, piece by piece: never half a character, never a part of what ends an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that are no character yet."""


class Text:
    """The text of one answer as it grows; what add() and end() return, joined, is all of it."""

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        """`decode` turns ids into text; `stops` are texts that end the answer and are not part of it."""
        self._decode = decode
        self._stops = tuple(stop for stop in stops if stop)
        self._ids: list[int] = []
        self._known = ""
        """The text of the ids up to the last piece, with which the next is told apart."""
        self._done = 0
        """Ids whose text was given out before those."""
        self._held = ""
        self.stopped = False
        """A stop text was met; nothing comes any more."""

    def add(self, token: int) -> str:
        """One more token. Returns the text that is certain now, often none."""
        if self.stopped:
            return ""
        self._ids.append(token)
        whole = self._decode(self._ids)
        if whole.endswith(UNFINISHED):
            return ""
        return self._given(self._fresh(whole))

    def end(self) -> str:
        """The answer has ended. Returns what was held back, half characters included."""
        if self.stopped:
            return ""
        new = self._given(self._fresh(self._decode(self._ids))) if self._ids else ""
        left, self._held = self._held, ""
        return new if self.stopped else new + left

    def _fresh(self, whole: str) -> str:
        """What the text of the ids has beyond that of the last piece; the ids since then become the ones it is told by:
        decoders treat the first token of a text in their own way, so some of what came before must stay."""
        new = whole[len(self._known) :]
        self._ids = self._ids[self._done :]
        self._done = len(self._ids)
        self._known = self._decode(self._ids)
        return new

    def _given(self, new: str) -> str:
        """Of the text that is certain, what cannot become part of a stop text."""
        if not self._stops:
            return new
        held = self._held + new
        found = [at for at in (held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        longest = max(_overlap(held, stop) for stop in self._stops)
        self._held = held[len(held) - longest :] if longest else ""
        return held[: len(held) - longest]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
