"""How often Python looks for garbage in reference cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = 200_000
"""Objects between two collections. Rows and imports make no cycles, and Python's own 700 take a fifth of the time."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collections are rare inside of this context."""
    usual = gc.get_threshold()
    gc.set_threshold(RARELY, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
