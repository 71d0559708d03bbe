"""Whether orjson kept all of a JSON text: it drops one of two equal names and rounds whole numbers beyond 64 bits.

Delete this file when orjson can refuse both (it has no option for either), or when reading may take four times as long:
Python's own decoder refuses both by itself, with the hooks in json_errors.py.
"""

from __future__ import annotations

import re

import orjson

_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_LARGE_NUMBER = re.compile(rb"(?<![.\d])(?:\d{20}|-\d{19})")
"""A whole number that may need more than 64 bits. The digits after a decimal point are rounded by every reader."""
_ESCAPED_COLON = re.compile(rb"\\u003[aA]")


def is_lossless(value: object, text: bytes) -> bool:
    """Whether `value`, which orjson.loads made of `text` (or a list of what it made of each line), holds all of it.

    False may be wrong, and then costs only time: the caller reads the text again, slowly. True is never wrong.
    """
    if _has_large_number(text) or _ESCAPED_COLON.search(text):
        return False
    try:
        written = orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes
        return False
    # A colon follows each name, and those inside of texts are on both sides: a name that was dropped is missing here.
    return text.count(b":") == written.count(b":")


def _has_large_number(text: bytes) -> bool:
    # The pattern alone takes ten times as long as parsing; few texts hold so many digits in a row at all.
    digits = text.translate(_DIGITS_AS_ZERO)
    return (b"0" * 20 in digits or b"-" + b"0" * 19 in digits) and _LARGE_NUMBER.search(text) is not None
