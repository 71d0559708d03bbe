"""What must be set before a training process imports its libraries, because they read it only once."""

from __future__ import annotations

SHORT_SPIN = "2000"
"""Turns a thread looks for work before it sleeps: some thirty microseconds, more than most gaps between operations."""
QUIET = 0.5
"""Cores used by other programs below which a machine counts as idle."""


def environment(cores: int, busy: float) -> dict[str, str]:
    """Variables for a process that trains on this many cores, `busy` of which other programs use; what the user has set
    comes first.

    Between two operations threads wait. On an idle machine they look for work for a moment before they sleep, which
    made a step 1.3 to 1.4 times as fast. Where another program uses a core they sleep at once: threads that spin then
    wait for each other longer than they work (1.5 times slower). CUDA's allocator may grow its pieces, so that rows of
    many lengths do not leave holes.
    """
    waiting = {"GOMP_SPINCOUNT": SHORT_SPIN} if busy < QUIET else {"OMP_WAIT_POLICY": "passive"}
    return {"OMP_NUM_THREADS": str(cores), **waiting, "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
