"""What must be set before a training process starts, because libraries read it only once."""

from __future__ import annotations

from llm_installer.core.hardware import Hardware


def environment(hardware: Hardware) -> dict[str, str]:
    """Variables for the process that trains on this hardware.

    On a CPU, threads that wait must sleep: where another program uses a core, spinning threads wait for each other far
    longer than they work. Freed memory is kept by the process, since faulting it in again at each step costs more than
    the arithmetic on it.
    """
    if hardware.device == "cuda":
        return {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    if hardware.device != "cpu":
        return {}
    keep = 8 * 1024**3
    return {
        "OMP_NUM_THREADS": str(hardware.cores),
        "OMP_WAIT_POLICY": "passive",
        "GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={keep}:glibc.malloc.trim_threshold={keep}",
    }
