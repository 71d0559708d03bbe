"""Who is read and who answers next: requests join and leave between steps, first come, first served."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from torch import Tensor

from llm_installer.core.reading import reason
from llm_installer.inference.engine.kept import KeptPrefixes
from llm_installer.inference.engine.request import Counts, Limits, Reason
from llm_installer.inference.engine.rows import Family, Row
from llm_installer.inference.engine.sampling import chosen


class Batch(Protocol):
    """Together or Alone."""

    rows: list[Row]
    at_once: bool

    @property
    def reading(self) -> list[Family]: ...
    @property
    def bytes(self) -> int: ...
    def fits(self, families: list[Family], another: Family) -> bool: ...
    def begin(self, families: list[Family], kept: KeptPrefixes) -> None: ...
    def read(self) -> list[tuple[Family, Tensor]]: ...
    def join(self, families: list[Family]) -> None: ...
    def step(self) -> Tensor: ...
    def leave(self, row: Row, kept: KeptPrefixes | None) -> None: ...
    def clear(self) -> None: ...


LATELY = 16
"""Beginnings by which it is told how fast the queue moves."""


class Scheduler:
    """Gives a batch its work, step by step, on the engine's thread and in torch's inference mode."""

    def __init__(self, batch: Batch, limits: Limits, token_bytes: int) -> None:
        self._batch, self._limits, self._token_bytes = batch, limits, token_bytes
        self._kept = KeptPrefixes(limits.kept)
        self._prompt_tokens = self._reused_tokens = self._new_tokens = 0
        self._when_unused: dict[str, Callable[[], None]] = {}
        self._wanted: frozenset[str] = frozenset()
        """Models that somebody waits for."""
        self._begun: deque[float] = deque(maxlen=LATELY)
        """When the last requests were begun."""

    @property
    def busy(self) -> bool:
        """There is something to do."""
        return bool(self._batch.rows or self._batch.reading)

    def counts(self, waiting: int, requests: int) -> Counts:
        """What it does now and has done; from any thread, so a figure may be a step old."""
        return Counts(
            answering=len(self._batch.rows),
            reading=sum(len(family.rows) for family in self._batch.reading),
            waiting=waiting,
            requests=requests,
            prompt_tokens=self._prompt_tokens,
            reused_tokens=self._reused_tokens,
            new_tokens=self._new_tokens,
            cache_bytes=self._batch.bytes + self._kept.bytes,
            kept=len(self._kept),
            pace=_pace([*self._begun], time.monotonic()),
        )

    def admit(self, waiting: deque[Family]) -> None:
        """Begin to read those who wait longest, as many as fit, if nobody is being read."""
        self._drop_unwanted(waiting)
        chosen: list[Family] = []
        while waiting and not self._batch.reading and self._room(chosen, waiting[0]):
            if chosen and not self._batch.fits(chosen, waiting[0]):
                break
            chosen.append(waiting.popleft())
        if chosen:
            self._begun.extend([time.monotonic()] * len(chosen))
            self._prompt_tokens += sum(len(each.ids) for each in chosen)
            self._guarded(lambda: self._batch.begin(chosen, self._kept), chosen)
            self._reused_tokens += chosen[0].taken.reused_tokens
        self.know(waiting)

    def know(self, waiting: Iterable[Family]) -> None:
        """These wait: what they are to be answered by is still used."""
        self._wanted = frozenset(family.taken.request.model for family in waiting)

    def step(self) -> None:
        """Read a piece of a prompt, and let every row that answers make a token."""
        if self._batch.reading:
            self._guarded(self._read)
        if self._batch.rows:
            self._guarded(self._answer)
        self._settle_unused()

    def when_unused(self, name: str, then: Callable[[], None]) -> None:
        """Call `then` once no row uses model `name`."""
        self._when_unused[name] = then
        self._settle_unused()

    def forget(self, name: str) -> None:
        """Model `name` is gone, or another one now."""
        self._kept.forget(name)

    def drop_all(self, waiting: Iterable[Family], why: Reason, fault: str = "") -> None:
        """Nobody is answered any more."""
        rows = [*self._batch.rows, *(row for family in [*self._batch.reading, *waiting] for row in family.rows)]
        self._batch.clear()
        for row in rows:
            if row.reason is None:
                row.drop(why, fault)

    def _drop_unwanted(self, waiting: deque[Family]) -> None:
        for family in [family for family in waiting if family.taken.unwanted.is_set()]:
            waiting.remove(family)
            for row in family.rows:
                row.drop("cancelled")
        for row in [row for row in self._batch.rows if row.taken.unwanted.is_set()]:
            self._batch.leave(row, None)
            row.drop("cancelled")

    def _room(self, chosen: list[Family], another: Family) -> bool:
        """Whether the rows of another family have room beside those that answer and those chosen."""
        coming = [row for family in [*chosen, another] for row in family.rows]
        rows = [*self._batch.rows, *coming]
        if not self._batch.at_once:
            return len(rows) == 1
        if len(rows) > self._limits.rows and len(rows) > len(another.rows):
            return False
        longest = max(row.most for row in rows)
        prompts = sum(len(family.ids) for family in [*chosen, another])
        need = (len(rows) * longest + prompts) * self._token_bytes
        while len(self._kept) and need + self._kept.bytes > self._limits.cache_bytes:
            self._kept.shrink(len(self._kept) - 1)
        return need <= self._limits.cache_bytes or len(rows) == len(another.rows)

    def _read(self) -> None:
        found = self._batch.read()
        for family, logits in found:
            unwanted = family.taken.unwanted.is_set()
            if unwanted:
                for row in family.rows:
                    row.drop("cancelled")
            else:
                self._said(family.rows, logits.expand(len(family.rows), -1))
        self._batch.join([family for family, _ in found])

    def _answer(self) -> None:
        rows = [*self._batch.rows]
        self._said(rows, self._batch.step())
        for row in rows:
            if row.reason is not None:
                self._batch.leave(row, self._kept if row.index == 0 else None)

    def _said(self, rows: list[Row], logits: Tensor) -> None:
        """Each row takes its next token."""
        tokens = chosen([row.chooser for row in rows], logits)
        self._new_tokens += len(tokens)
        for row, token in zip(rows, tokens, strict=True):
            row.take(token)

    def _guarded(self, work: Callable[[], None], coming: Sequence[Family] = ()) -> None:
        """Do it; where torch cannot, for want of memory, or a guide has no word to allow, those concerned and the
        `coming` ones hear of it, and the next have a clean start."""
        try:
            work()
        except (RuntimeError, ValueError) as error:
            self.drop_all(coming, "error", reason(error))

    def _settle_unused(self) -> None:
        used = {*self._wanted, *(row.name for row in self._batch.rows)}
        used |= {family.taken.request.model for family in self._batch.reading}
        for name in [name for name in self._when_unused if name not in used]:
            self._when_unused.pop(name)()


def _pace(begun: Sequence[float], now: float) -> float:
    """Seconds between two of these moments, the time since the last counted where it is longer; 0 for less than two."""
    if len(begun) < 2:
        return 0.0
    return max((begun[-1] - begun[0]) / (len(begun) - 1), (now - begun[0]) / len(begun))
