"""The one probe of the machine: device, memory, cores, compiler. torch is imported inside it, so `--help` is quick."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from dataclasses import dataclass
from typing import Literal

from llm_installer.core.text import GIB as GIB
from llm_installer.core.text import counted, size


@dataclass(frozen=True)
class Hardware:
    """What this machine offers to a run. Memory is in bytes: of the device, or main memory where that is the CPU."""

    device: Literal["cpu", "cuda", "mps"]
    name: str
    devices: int
    free_bytes: int
    total_bytes: int
    bf16: bool
    """Whether bfloat16 matrix products are native here (not emulated)."""
    cores: int
    compiler: bool = False
    """Whether there is a C compiler, for kernels that training on a CPU can use."""
    float8: bool = False
    """Whether it multiplies matrices in float8 (Ada, Hopper and later)."""

    @property
    def summary(self) -> str:
        """One line for the user."""
        count = f"{self.devices} x " if self.devices > 1 else ""
        kind = "bfloat16" if self.bf16 else "no native bfloat16"
        where = f"{counted(self.cores, 'core')}, " if self.device == "cpu" else ""
        return f"{count}{self.name} ({where}{size(self.free_bytes)} of {size(self.total_bytes)} free, {kind})"


def probe_hardware() -> Hardware:
    """The first CUDA device, else Apple's MPS, else the CPU."""
    import torch

    cores = usable_cores()
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        capability = torch.cuda.get_device_capability()
        name = torch.cuda.get_device_name()
        bf16, float8 = capability >= (8, 0), capability >= (8, 9)
        return Hardware("cuda", name, torch.cuda.device_count(), free, total, bf16, cores, float8=float8)
    free, total = memory_bytes()
    if torch.backends.mps.is_available():
        return Hardware("mps", "Apple GPU", 1, free, total, True, cores)
    bf16 = bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return Hardware("cpu", "CPU", 1, free, total, bf16, cores, bool(c_compiler()))


def c_compiler() -> list[str]:
    """The command of a C compiler: CC, or what the machine has; empty where there is none, or CC is no command."""
    try:
        named = shlex.split(os.environ.get("CC", ""))
    except ValueError:  # a quote that is not closed
        return []
    found = named or [c for c in (shutil.which(n) for n in ("cc", "gcc", "clang")) if c][:1]
    return found if found and shutil.which(found[0]) else []


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_cores(seconds: float = 0.1) -> float:
    """How many of the usable cores other programs keep busy, on average over `seconds`; 0 where it cannot be seen."""
    before = _busy_ticks()
    if not before:
        return 0.0
    time.sleep(seconds)
    spent = {core: ticks - before[core] for core, ticks in _busy_ticks().items() if core in before}
    return sum(spent.values()) / os.sysconf("SC_CLK_TCK") / seconds


def _busy_ticks() -> dict[str, int]:
    """Clock ticks that each usable core has worked since the machine started.

    All columns of /proc/stat but the two idle ones and those of guests, which the first two contain (proc(5)).
    """
    if not os.path.exists("/proc/stat"):
        return {}
    mine = {f"cpu{n}" for n in os.sched_getaffinity(0)}
    with open("/proc/stat", encoding="ascii") as lines:
        rows = [line.split() for line in lines]
    return {row[0]: sum(map(int, row[1:4])) + sum(map(int, row[6:9])) for row in rows if row and row[0] in mine}


def memory_bytes() -> tuple[int, int]:
    """Free and total bytes of main memory; a container's own limit counts when it is lower (cgroup v2)."""
    if not hasattr(os, "sysconf"):
        return _windows_memory()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = total
    if os.path.exists("/proc/meminfo"):
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        free = found.get("MemAvailable", total)
    limit, used = _read_int("/sys/fs/cgroup/memory.max"), _read_int("/sys/fs/cgroup/memory.current")
    if limit and limit < total:
        free, total = min(free, limit - used), limit
    return free, total


def _windows_memory() -> tuple[int, int]:
    """What GlobalMemoryStatusEx says (MEMORYSTATUSEX: two 32-bit numbers, then total, available and five more)."""
    import ctypes

    status = (ctypes.c_uint64 * 8)(64)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status[2]), int(status[1])


def _read_int(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0
