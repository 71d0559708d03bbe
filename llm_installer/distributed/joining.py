"""The processes of a run find each other, and those that wait for one that has left end with a sentence."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import psutil
import torch
import torch.distributed as dist

from llm_installer.core.errors import LeftBehind
from llm_installer.core.text import counted

PATIENCE = timedelta(days=2)
"""How long a process waits for another, which may be encoding much data; one that ends is noticed."""
MEETING = timedelta(minutes=10)
"""How long it waits for another that has never come: torchrun starts all of them together."""
_LOOK = timedelta(seconds=1)
_CLOSED = ("connection closed by peer", "connection reset by peer", "broken pipe", "ncclremoteerror")
"""How the exchanges of torch say that another process is gone."""
_meetings = count()


def join() -> None:
    """Join the processes that torchrun started beside this one. Raises LeftBehind where one of them does not come."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(
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


def _wait_for_all(store: dist.Store, name: str, size: int) -> None:
    last = time.monotonic() + MEETING.total_seconds()
    if store.add(name, 1) == size:
        store.set(f"{name}/all", "1")
    while True:
        try:
            return store.wait([f"{name}/all"], _LOOK)
        except dist.DistStoreError:
            here = store.add(name, 0)
        if here < size and (_one_has_left() or time.monotonic() > last):
            raise LeftBehind(
                f"{counted(here, 'process', 'processes')} of {size} came to train, and the others did not or have "
                "ended; let every process that torchrun starts call lora_sft, or start the script without torchrun"
            )


def _one_has_left() -> bool:
    """Whether a process that torchrun started on this machine is gone. False where that cannot be seen."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    try:
        parent = psutil.Process(os.getppid())
        if "LOCAL_RANK" in parent.environ():
            return False  # a script between torchrun and this process
        alive = [child for child in parent.children() if child.status() != psutil.STATUS_ZOMBIE]
    except psutil.Error:
        return False
    return len(alive) < int(os.environ["LOCAL_WORLD_SIZE"])
