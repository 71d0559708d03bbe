"""Work that comes again is recorded as a CUDA graph and played back: the GPU then does not wait for Python.

A small step spends 150 ms of which the GPU works 24. What is recorded is tried: it must give the loss and the gradient
of the same work as it stands, on another batch, and is left out with a sentence where it does not. Memory comes from
one pool for all graphs, which is safe because they never run at once and none reads what another has left.
Whatever a graph must not hold a number of is computed or kept on the device: slots.py, device_step.py.
Delete when torch.compile records a step with an adapter for each shape without compiling it first.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from llm_installer.distributed.memory_errors import is_out_of_memory
from llm_installer.models.base import first_line
from llm_installer.planning.plan import Plan

WORTH = 6
"""How often a bucket must be met: recording and trying it take about five times its work."""
MET = 2
"""It is recorded when it is met for this time: what comes once would not be worth it."""
WARMING = 2
"""Passes before it is recorded: kernels are compiled and loaded, libraries make their workspace."""
SPREAD, EXACT = 3.0, 1e-6
"""How far what is played back may be off: so many times what two passes differ by, or this share of the gradient."""

Work = Callable[[], None]


class Capture(Protocol):
    """How work is recorded."""

    def warm(self, work: Work) -> None:
        """Do it where it will be recorded."""
        ...

    def record(self, work: Work) -> Work:
        """What does it again. Whether it is also done once by this is not said."""
        ...


class CudaCapture:
    """As CUDA graphs, on one stream and from one pool."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()

    def warm(self, work: Work) -> None:
        """On the stream of the recording, so that what autograd makes of the parameters belongs to it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            work()
        torch.cuda.current_stream().wait_stream(self.stream)

    def record(self, work: Work) -> Work:
        """Record it; nothing is computed yet."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            work()
        return graph.replay


@dataclass
class _Entry:
    met: int = 0
    replay: Work | None = None
    held: list[Tensor] = field(default_factory=list)
    """What it changes, when it was recorded."""
    agrees: bool = False
    """Whether what is played back was found to be right."""


class Graphs:
    """The recorded work of a run by key, such as the shape of a micro-batch, and work as it stands where none is."""

    def __init__(
        self,
        capture: Capture,
        changed: Callable[[], Sequence[Tensor]],
        meets: Mapping[Hashable, float],
        say: Callable[[str], None],
        whole: bool = False,
    ) -> None:
        """`changed` are all the tensors that work changes; none where the work is still to make some of them. It only
        adds to them, so that it can be tried from zero, but where it is `whole` steps of the optimizer. `meets` says
        how often each key will come, `say` is told why nothing is recorded."""
        self.capture, self.changed, self.meets, self.say, self.whole = capture, changed, dict(meets), say, whole
        self.refused = ""
        """Why nothing is recorded any longer."""
        self._entries: dict[Hashable, _Entry] = {}

    @property
    def recorded(self) -> int:
        """How many are played back."""
        return sum(entry.replay is not None for entry in self._entries.values())

    def run(self, key: Hashable, work: Work) -> None:
        """Do it: as it was recorded, or as it stands.

        It is recorded when it is met for the second time and tried when it is met for the third, when weights, rates
        and input are others: what has kept a copy of the old ones is found out.
        """
        entry = self._entries.setdefault(key, _Entry())
        entry.met += 1
        if not self.refused and worth_recording(entry.met, self.meets.get(key, 0.0)):
            held = list(self.changed())
            # Somebody may have put other tensors in their place: a state that was loaded, or forgotten. One that is
            # made while it is tried could not be put back to its start.
            if not held:
                entry.replay = None
            elif not entry.replay or not _same(held, entry.held):
                entry.replay, entry.held, entry.agrees = self._recorded(work, held), held, False
            elif not entry.agrees:
                entry.agrees = self._agrees(work, entry.replay, held)
        (entry.replay if entry.replay and entry.agrees else work)()

    def refuse(self, why: str) -> None:
        """Record nothing from here on, and forget what was recorded; said once."""
        if not self.refused:
            self.refused = why
            self.say(without(why, "Optimizer steps" if self.whole else ""))
        self._entries.clear()

    def _recorded(self, work: Work, held: list[Tensor]) -> Work | None:
        """What plays it back; None where it cannot be recorded."""
        with self._trying(held) as start:
            for _ in range(WARMING):
                start()
                self.capture.warm(work)
            start()
            return self.capture.record(work)
        return None

    def _agrees(self, work: Work, replay: Work, held: list[Tensor]) -> bool:
        """Whether what is played back does now what the work does."""
        with self._trying(held) as start:
            changes = []
            warm: Work = partial(self.capture.warm, work)
            for does in (*[warm] * WARMING, replay):
                old = start()
                does()
                with torch.no_grad():
                    parts = [(t - o).flatten().float() for t, o in zip(held, old, strict=True)]
                    changes.append(torch.cat(parts))
            first, second, found = changes
            spread, apart, size = (float(t.norm()) for t in (second - first, found - first, first))
            if apart <= SPREAD * spread + EXACT * size:
                return True
            share = f"{apart / max(size, 1e-30):.0e}"
            self.refuse(f"what is played back is off by {share}, as a share of what it should be")
        return False

    @contextmanager
    def _trying(self, held: list[Tensor]) -> Iterator[Callable[[], list[Tensor]]]:
        """Nothing that is done in here changes what work changes, or random numbers; errors are refusals. What is given
        puts all of it to its start, and returns that."""
        before = [tensor.detach().clone() for tensor in held]
        begin = before if self.whole else [torch.zeros_like(tensor) for tensor in before]
        cuda = held[0].is_cuda
        random = torch.cuda.get_rng_state() if cuda else torch.get_rng_state()
        try:
            yield lambda: _put(held, begin)
        except RuntimeError as error:
            self.refuse("memory is short" if is_out_of_memory(error) else f"recording failed ({first_line(error)})")
        else:  # after a recording that failed CUDA's generator may not be asked
            (torch.cuda.set_rng_state if cuda else torch.set_rng_state)(random)
        finally:
            _put(held, before)


@torch.no_grad()
def _put(held: Sequence[Tensor], values: list[Tensor]) -> list[Tensor]:
    for tensor, value in zip(held, values, strict=True):
        tensor.copy_(value)
    return values


def _same(now: Sequence[Tensor], then: Sequence[Tensor]) -> bool:
    return len(now) == len(then) and all(a is b for a, b in zip(now, then, strict=True))


def worth_recording(met: int, meets: float) -> bool:
    """Whether work that is met for this time, of so many that will be, is recorded now."""
    return met >= MET and meets >= WORTH


def without(why: str, what: str = "") -> str:
    """That there are no graphs, or none for a part of the work, as a sentence."""
    return f"{what} run without CUDA graphs: {why}." if what else f"Without CUDA graphs: {why}."


def refusal(plan: Plan, rope: str, sharded: bool, images: bool) -> str:
    """Why nothing is recorded in this run; empty where it is tried. `rope` is the kind of the rotary embedding."""
    checks = (
        (torch.version.hip is not None, "they were not tried on this kind of GPU"),
        (plan.precision == "float16", "float16 looks at its scale in each step"),
        (bool(plan.method.neftune_noise_alpha), "the noise of NEFTune depends on the length of a row"),
        (rope == "dynamic", "this model's positions depend on the longest row so far"),
        (sharded, "the base is sharded over several processes"),
        (images, "rows have images"),
        (bool(plan.checkpointed_layers) and plan.lora_dropout > 0, "checkpointed layers repeat their dropout"),
    )
    return next((why for found, why in checks if found), "")
