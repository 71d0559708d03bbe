"""Memory that was freed stays with the process: a training step asks for the same sizes again and again."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Names of mallopt(3)."""
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library's allocator to keep what is freed, instead of giving it back and faulting it in again, page
    by page, at each step. True where that is possible (glibc)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wishes = ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST), (_MMAP_MAX, 0))
    return all([mallopt(name, value) for name, value in wishes])
