"""What this process holds of the machine's memory, as Linux counts it; elsewhere only the peak is known."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Sequence
from pathlib import Path

_STATUS, _REFERENCES, _MAPS = (Path(f"/proc/self/{name}") for name in ("status", "clear_refs", "maps"))


def resident_bytes() -> int:
    """Bytes that this process holds now; 0 where the system does not say."""
    return _status("VmRSS") if _STATUS.exists() else 0


def peak_resident_bytes() -> int:
    """The most bytes that this process held at once since it began, or since forget_peak_resident."""
    if _STATUS.exists():
        return _status("VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_resident() -> bool:
    """Let the peak start from what is held now; False where the system cannot."""
    try:
        _REFERENCES.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def mapped_files() -> tuple[tuple[int, int], ...]:
    """(first address, address after the last) of each part of a file that is mapped into this process; none where the
    system does not say."""
    try:
        lines = [line.split(maxsplit=5) for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ()
    files = [words for words in lines if len(words) == 6 and words[5].startswith("/")]
    ranges = (words[0].split("-") for words in files if not words[5].startswith("/dev/"))
    return tuple((int(first, 16), int(after, 16)) for first, after in ranges)


def give_back(start: int, size: int, mapped: Sequence[tuple[int, int]]) -> None:
    """Let the system have the memory of `size` bytes from address `start`, if they lie in one of the `mapped` files.

    Whoever looks there again finds what the file holds, and nothing that was written over it in memory.
    """
    page = mmap.PAGESIZE
    first, after = -(-start // page) * page, (start + size) // page * page
    if first < after and any(begin <= first and after <= end for begin, end in mapped):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(after - first), mmap.MADV_DONTNEED)


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes (proc(5) counts in KiB)."""
    lines = (line.split() for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines())
    return next((int(words[1]) * 1024 for words in lines if words and words[0] == f"{name}:"), 0)
