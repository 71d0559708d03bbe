"""What must be set before a training process imports its libraries, because they read it only once."""

from __future__ import annotations


def environment(cores: int) -> dict[str, str]:
    """Variables for a process that trains on a machine with this many cores; what the user has set comes first.

    Threads that wait must sleep: where another program uses a core, spinning threads wait for each other far longer
    than they work. CUDA's allocator may grow its pieces, so that rows of many lengths do not leave holes.
    """
    return {
        "OMP_NUM_THREADS": str(cores),
        "OMP_WAIT_POLICY": "passive",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }
