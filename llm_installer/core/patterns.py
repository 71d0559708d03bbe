"""Whether a pattern from a file can be compared with the name of a layer in reasonable time.

Python's `re` cannot be interrupted, and some patterns take longer than anybody waits.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

if sys.version_info >= (3, 11):
    from re import _constants as codes
    from re import _parser as reader
else:
    import sre_constants as codes
    import sre_parse as reader

_MOST = 4
"""Repeats without an end that may follow one another: each multiplies the time by the length of the name."""
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT)


def is_quick(pattern: str) -> bool:
    """Whether `pattern` has no repeat inside a repeat, and few in a row; what is no pattern at all fails at once."""
    try:
        return _repeats(reader.parse(pattern)) <= _MOST
    except re.error:
        return True
    except (OverflowError, RecursionError):
        return False


def _repeats(part: object) -> int:
    """The most repeats without an end on one way through `part`; more than allowed where one repeat holds another."""
    if isinstance(part, reader.SubPattern):
        return sum(map(_of, part.data))
    if isinstance(part, (list, tuple)):
        return sum(map(_repeats, part))
    return 0


def _of(item: tuple[object, object]) -> int:
    code, inside = item
    if code is codes.BRANCH:
        assert isinstance(inside, tuple)
        return max(map(_repeats, inside[1]), default=0)
    if code in _REPEATS:
        assert isinstance(inside, tuple)
        _, most, body = inside
        held = _repeats(body)
        if most > 1 and (held or any(_branches(body))):
            return _MOST + 1
        return held + (most is codes.MAXREPEAT)
    return _repeats(inside)


def _branches(part: object) -> Iterator[bool]:
    """True for each choice in `part`: under a repeat, several ways to read the same characters multiply."""
    if isinstance(part, reader.SubPattern):
        for code, inside in part.data:
            yield code is codes.BRANCH
            yield from _branches(inside)
    elif isinstance(part, (list, tuple)):
        for each in part:
            yield from _branches(each)
