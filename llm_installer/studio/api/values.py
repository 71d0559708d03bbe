"""What workers say in fields of their own choice: checked once, at the door, so that every reader may trust it."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator

DEEPEST = 20
"""Levels of values within values."""
LARGEST = 1 << 60
"""Of a whole number: databases, floats and curves take it."""


def _taken(value: object, levels: int = DEEPEST) -> object:
    """The value, with null where JSON has no word for a float. Raises ValueError."""
    if not levels:
        raise ValueError(f"Values may have {DEEPEST} levels")
    if isinstance(value, str) and not value.isascii():
        _refuse_halves(value)
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"A whole number may be {LARGEST} at most")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_taken(name, levels): _taken(one, levels - 1) for name, one in value.items()}
    return [_taken(one, levels - 1) for one in value] if isinstance(value, list) else value


def _refuse_halves(text: str) -> None:
    """UTF-8, and so every answer, has no halves of surrogate pairs; the escapes of JSON have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("A text has half of a surrogate pair, which is no character") from None


Values = Annotated[dict[str, object], AfterValidator(_taken)]
"""Plain values that are safe to keep, show and send."""
