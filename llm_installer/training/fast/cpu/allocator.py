"""Reserved memory: what is freed stays with the process, since a training step asks for the same sizes again.

Delete when PyTorch's allocator for CPUs caches blocks (torch 2.13 calls malloc): allocator settings
were worth 1.2 to 1.4 times the speed before the loss was computed in chunks, and 1.05 after.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Names of mallopt(3)."""
SHAPES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""What oneDNN and PyTorch's calls of it read."""
REMEMBERED = "128"
"""More than two parallel micro-batches need."""
_LARGEST = 2**31 - 1
_MANY = 65536
"""glibc's own limit of mapped blocks."""


def reserve_freed_memory() -> bool:
    """Tell the C library's allocator to keep what is freed, instead of giving it back and faulting it in again, page
    by page, at each step. True where that is possible (glibc)."""
    return _set(((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST), (_MMAP_MAX, 0)))


def remember_few_products() -> None:
    """Have PyTorch and oneDNN keep what they made for products of the last shapes only; before the first product.

    Each micro-batch has a length of its own, so with it some fifty new shapes that rarely come again. Each holds half a
    megabyte, and the usual thousand of them, kept twice, grow to as much as the rest of a small model's run.
    """
    for name in SHAPES:
        os.environ.setdefault(name, REMEMBERED)


def give_back_freed_memory() -> bool:
    """Have each freed block of a megabyte go back at once, so that the process holds no more than its tensors fill.

    For runs whose memory is short: faulting pages in again costs time, but what is kept lies in pieces. Before glibc
    2.38 an aligned block does not fit where one of its own size was, and a process can hold several times what it uses.
    """
    return _set(((_MMAP_MAX, _MANY), (_MMAP_THRESHOLD, 1 << 20), (_TRIM_THRESHOLD, 1 << 20)))


def give_back_now() -> bool:
    """Have the C library give back all the pages nothing lies on, wherever they are; False where it cannot."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    return bool(trim(0))


def _set(wishes: tuple[tuple[int, int], ...]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(name, value) for name, value in wishes])
