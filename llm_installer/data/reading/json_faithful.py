"""Whether orjson kept all of a text: it drops one of two equal names, and rounds very large whole numbers.

Both are found by counting bytes, which costs a fraction of parsing; Python's own decoder then says what is wrong.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

Bytes: TypeAlias = npt.NDArray[np.uint8]

_CHUNK = 1 << 20
_EXACT_DIGITS = 19
"""Whole numbers of so many digits are exact unless negative; with one more they may be rounded."""
_COLON, _QUOTE, _SPACE, _BACKSLASH, _MINUS, _POINT, _ZERO = b':" \\-.0'
_DISGUISED = re.compile(rb"\\u00(?:20|22|3[aA]|5[cC])")
"""Characters that _names looks for, written so that it would count them on one side only."""


def is_faithful(value: object, text: bytes) -> bool:
    """Whether `value`, parsed from `text` by orjson, holds everything that the text says."""
    data = np.frombuffer(text, np.uint8)
    if _has_large_number(data) or _DISGUISED.search(text):
        return False
    try:
        again = orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes
        return False
    return _names(data) == _names(np.frombuffer(again, np.uint8))


def _names(data: Bytes) -> int:
    """How many colons follow a space or the end of a quoted text.

    All names do that; the few texts that do it too are the same on both sides.
    """
    count = 0
    for start in range(0, len(data), _CHUNK):
        colons = np.flatnonzero(data[start : start + _CHUNK] == _COLON) + start
        before, second, third = data[colons - 1], data[colons - 2], data[colons - 3]
        inside = (second == _BACKSLASH) & (third != _BACKSLASH)
        count += int(np.count_nonzero((before <= _SPACE) | ((before == _QUOTE) & ~inside)))
    return count


def _has_large_number(data: Bytes) -> bool:
    """Whether so many digits stand in a row anywhere, be it in a text, that a whole number might be rounded."""
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK + _EXACT_DIGITS]
        runs = _is_digit(chunk)
        length = 1
        while length < _EXACT_DIGITS and len(runs) > 0:
            step = min(length, _EXACT_DIGITS - length)
            runs = runs[:-step] & runs[step:]
            length += step
        places = np.flatnonzero(runs) + start
        before = data[places - 1]
        is_start = (before != _POINT) & ~_is_digit(before)
        after = data[np.minimum(places + _EXACT_DIGITS, len(data) - 1)]
        if np.any(is_start & (_is_digit(after) | (before == _MINUS))):
            return True
    return False


def _is_digit(data: Bytes) -> npt.NDArray[np.bool_]:
    digits: npt.NDArray[np.bool_] = (data - np.uint8(_ZERO)) < 10
    return digits
