"""The processes of a run find each other, and those that wait for one that has left end with a sentence."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist

from llm_installer.core.errors import LeftBehind
from llm_installer.core.text import counted

PATIENCE = timedelta(days=2)
"""How long a process waits for another, which may be encoding much data; one that ends is noticed."""
MEETING = timedelta(minutes=10)
"""How long it waits for another that has never come: torchrun starts all of them together."""
_LOOK = 0.1
"""Seconds between two looks for them."""
_CLOSED = ("connection closed by peer", "connection reset by peer", "broken pipe", "ncclremoteerror")
"""How the exchanges of torch say that another process is gone."""
_meetings = count()


class _Store(Protocol):
    """What is used of torch's store, where the processes leave notes for each other."""

    def add(self, key: str, amount: int) -> int: ...
    def set(self, key: str, value: str) -> None: ...
    def check(self, keys: list[str]) -> bool: ...


def join() -> None:
    """Join the processes that torchrun started beside this one. Raises LeftBehind where one of them does not come."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        timeout=MEETING,
        wait_for_workers=False,
        multi_tenant=True,
        use_libuv=os.environ.get("USE_LIBUV", "1") == "1",
    )
    _wait_for_all(store, f"llm-installer/{next(_meetings)}", size)
    store.set_timeout(PATIENCE)
    # Both kinds, so that agreeing on a signal never waits for a GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)


@contextmanager
def noticing() -> Iterator[None]:
    """Raise LeftBehind where an exchange with other processes fails since one of them has ended."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in _CLOSED):
            raise
        raise LeftBehind(
            "Another process of this run has ended, and this one cannot go on without it; what that one said tells why"
        ) from error


def _wait_for_all(store: _Store, name: str, size: int) -> None:
    last = time.monotonic() + MEETING.total_seconds()
    if store.add(name, 1) == size:
        store.set(f"{name}/all", "1")
    # Not store.wait, which writes lines of its own to stderr whenever its time is over.
    while not store.check([f"{name}/all"]):
        time.sleep(_LOOK)
        here = store.add(name, 0)
        if here < size and (_one_has_left() or time.monotonic() > last):
            raise LeftBehind(
                f"{counted(here, 'process', 'processes')} of {size} came to train, and the others did not or have "
                "ended; let every process that torchrun starts call lora_sft, or start the script without torchrun"
            )


def _one_has_left() -> bool:
    """Whether a process that torchrun started on this machine is gone. False where that cannot be seen, as only Linux
    shows it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    parent = Path("/proc") / str(os.getppid())
    try:
        if b"\0LOCAL_RANK=" in b"\0" + (parent / "environ").read_bytes():
            return False  # a script between torchrun and this process
        started = [one for thread in parent.glob("task/*/children") for one in thread.read_text().split()]
        states = [(Path("/proc") / one / "stat").read_text().rpartition(")")[2].split()[0] for one in started]
    except OSError:
        return False
    return sum(state not in "ZX" for state in states) < int(os.environ["LOCAL_WORLD_SIZE"])
