"""How often Python looks for garbage in cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = 200_000
"""Rows and imports make no cycles, and looking for some every 700 objects takes a fifth of the time."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Garbage is looked for less often."""
    usual = gc.get_threshold()
    gc.set_threshold(RARELY, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
