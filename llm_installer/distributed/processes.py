"""The processes of one run: who writes, who waits, and how they agree. With one process nothing here does anything."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from llm_installer.distributed.memory_errors import RanOut, is_out_of_memory

Held = TypeVar("Held")
Told = TypeVar("Told")
PATIENCE = timedelta(days=2)
"""How long a process waits for another, which may be encoding much data; a dead one is noticed by the launcher."""


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
    """Join the processes that torchrun started beside this one; all but the main one fall silent."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Both kinds, so that agreeing on a signal never waits for a GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    if not is_main():
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.close(silent)
    yield
    # Not after an error: the others may be in the middle of an exchange, and the launcher ends them.
    dist.destroy_process_group()


def device_of(kind: str) -> str:
    """This process's own device of a kind."""
    return f"cuda:{torch.cuda.current_device()}" if kind == "cuda" and count() > 1 else kind


@contextmanager
def main_first() -> Iterator[None]:
    """The main process does something, then the others do it: they find in the caches what it has made."""
    if count() > 1 and not is_main():
        greatest(0)
    yield
    if count() > 1 and is_main():
        greatest(0)


def main_only(hold: Callable[[], AbstractContextManager[Held]], otherwise: Held) -> AbstractContextManager[Held]:
    """What the main process holds for all of them; the others have `otherwise`."""
    return hold() if is_main() else nullcontext(otherwise)


def of_main(make: Callable[[], Told]) -> Told:
    """What `make` returns in the main process, in all of them. It travels as JSON: plain values come back as such,
    tuples as lists."""
    if count() == 1:
        return make()
    told = [json.dumps(make()) if is_main() else ""]
    dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    found: Told = json.loads(told[0])
    return found


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
