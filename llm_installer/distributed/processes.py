"""The processes of one run: who writes, who waits, and how they agree. With one process nothing here does anything."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from llm_installer.core.errors import (
    AdapterError,
    DataError,
    HubError,
    InstallerError,
    ModelError,
    TrainingError,
    UsageError,
)
from llm_installer.distributed.joining import join, noticing
from llm_installer.distributed.memory_errors import RanOut, is_out_of_memory

Held = TypeVar("Held")
Told = TypeVar("Told")
PLAIN = (UsageError, DataError, ModelError, AdapterError, HubError, TrainingError)
"""Errors that are made of their sentence alone."""


@dataclass(frozen=True)
class Refusal:
    """Why the main process does not go on; nothing where it does."""

    kind: type[InstallerError] | None = None
    why: str = ""


def count() -> int:
    """Processes of this run, on all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def index() -> int:
    """Which of them this is."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the one that speaks and writes."""
    return index() == 0


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that torchrun started beside this one; all but the main one are silent while it lasts.

    A group that is there already, of a caller or of somebody's own script, is used and left as it is.
    """
    joins = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if joins:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        join()
    with nullcontext() if is_main() else _silent(), noticing():
        yield
    if joins:
        # Not after an error: the others may be in the middle of an exchange, and the launcher ends them.
        dist.destroy_process_group()


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing is printed while this lasts, by libraries neither; a script of the user's own may speak afterwards."""
    sys.stdout.flush()
    before, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)


def device_of(kind: str) -> str:
    """This process's own device of a kind."""
    return f"cuda:{torch.cuda.current_device()}" if kind == "cuda" and count() > 1 else kind


@contextmanager
def main_first() -> Iterator[None]:
    """The main process does something, then the others do it: they find in the caches what it has made.

    What the main one refuses is refused in all of them, in the same words.
    """
    if count() == 1:
        yield
    elif is_main():
        with _told_to_others():
            yield
    else:
        _heed()
        yield


@contextmanager
def main_only(hold: Callable[[], AbstractContextManager[Held]], otherwise: Held) -> Iterator[Held]:
    """What the main process holds for all of them; the others have `otherwise`, and its error where it has one."""
    with ExitStack() as held:
        if count() == 1:
            yield held.enter_context(hold())
        elif is_main():
            with _told_to_others():
                found = held.enter_context(hold())
            yield found
        else:
            _heed()
            yield otherwise


@contextmanager
def _told_to_others() -> Iterator[None]:
    """The main process tells the others whether this can be done: they wait for it in `_heed`."""
    try:
        yield
    except InstallerError as error:
        handed(Refusal(type(error), str(error)))
        raise
    handed(Refusal())


def _heed() -> None:
    """Wait for what the main process does in `_told_to_others`; raise its error where it has one."""
    told = handed(Refusal())
    if told.kind:
        raise (told.kind if told.kind in PLAIN else TrainingError)(told.why)


def of_main(make: Callable[[], Told]) -> Told:
    """What `make` returns in the main process, in all of them. It travels as JSON: plain values come back as such,
    tuples as lists."""
    if count() == 1:
        return make()
    told = [json.dumps(make()) if is_main() else ""]
    dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    found: Told = json.loads(told[0])
    return found


def handed(value: Held) -> Held:
    """The main process's `value`, in all of them, paths and dataclasses too."""
    if count() == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    return told[0]


def greatest(*numbers: int) -> tuple[int, ...]:
    """The greatest of each number that any process has."""
    if count() == 1:
        return numbers
    found = torch.tensor(numbers)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return tuple(int(n) for n in found)


@contextmanager
def all_or_none(exchanges: bool = False) -> Iterator[None]:
    """What each process computes by itself; where memory runs out in one, all of them raise RanOut at its end.

    Work that `exchanges` something underway cannot be agreed on: the others would wait inside it. It raises as it is.
    """
    if count() == 1 or exchanges:
        yield
        return
    failed = False
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        failed = True
    if greatest(int(failed))[0]:
        raise RanOut("out of memory in one of several processes")


def same_everywhere(tensors: Sequence[Tensor]) -> None:
    """Give the tensors of all processes the main one's values."""
    if count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def seed_apart(seed: int, step: int) -> None:
    """Let the other processes draw dropout of their own; the main one draws on as a single process would."""
    if not is_main():
        torch.manual_seed(hash((seed, step, index())) % 2**63)


def shares(sizes: Sequence[int], parts: int) -> list[list[int]]:
    """Indices of works of these sizes for each of so many workers, the largest first to whoever has least to do."""
    dealt: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        worker = loads.index(min(loads))
        dealt[worker].append(i)
        loads[worker] += sizes[i]
    return dealt
