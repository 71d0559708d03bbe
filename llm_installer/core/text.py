"""Words that every room shares: sizes, counts, shortened texts and paths, each made in this one place."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

GIB = 1024**3
LONGEST = 300
"""Characters of a quoted text on one line."""
_STEERING = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls of ASCII and Latin-1, line and paragraph separators, embeddings and overrides of the direction of writing,
and halves of surrogate pairs, which is what bytes of a file name become that are no UTF-8. Not the tab."""
_CREDENTIALS = re.compile(r"://[^\s/?#@]*:[^\s/?#]*@")
"""User and password of an address (RFC 3986, userinfo); the password may hold an @ itself."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f"}


def size(count: float) -> str:
    """Bytes as people read them, in powers of 1024: "512 bytes", "34 MiB", "1.5 GiB"."""
    for unit, scale in (("GiB", GIB), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= scale * 0.95:
            number = count / scale
            return f"{number:.1f} {unit}" if unit == "GiB" and number < 100 else f"{number:.0f} {unit}"
    return counted(int(count), "byte")


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun in the right number: "1 record", "2,345 records"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def visible(text: str, lines: bool = False) -> str:
    """The text with escapes, as JSON writes them, for what steers a terminal or lets a text seem another one.

    Line feeds stay where the text may have several `lines`: one in a name would forge a line of its own.
    """
    found = text.replace("\r\n", "\n") if lines else text
    return _STEERING.sub(lambda one: "\n" if lines and one[0] == "\n" else _escape(one[0]), found)


def steering(text: str) -> list[tuple[int, str]]:
    """(position, escape) of each character that `visible` would not leave in one line."""
    return [(one.start(), _escape(one[0])) for one in _STEERING.finditer(text)]


def _escape(character: str) -> str:
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def shortened(text: str, limit: int = LONGEST) -> str:
    """A text on one line, `visible`, cut with dots where it is longer than `limit` characters."""
    flat = visible(" ".join(text.split()))
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def without_password(text: str) -> str:
    """The text with addresses as they are without user and password, which belong in no file and on no screen."""
    return _CREDENTIALS.sub("://", text)


def perplexity(loss: float) -> str:
    """exp(loss) in three digits, for a loss in nats per token."""
    value = math.exp(min(loss, 50))
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def short_path(path: str | Path) -> str:
    """A path as its reader would type it: below the current folder ./..., below home ~/..., whichever is shorter."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the current folder was deleted
        here = Path(Path.home().anchor)
    given = Path(os.path.normpath(here / path))
    if given == here:
        return "."
    ways = [str(given)]
    for name, folder in ((".", here), ("~", Path.home())):
        if given != folder and given.is_relative_to(folder) and folder != Path(folder.anchor):
            ways.append(f"{name}/{given.relative_to(folder)}")
    return min(ways, key=len)


def clock(seconds: float) -> str:
    """HH:MM:SS; hours go on counting after a day."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}"


def loss_text(loss: float | None) -> str:
    """Four decimals; a dash where there is no number."""
    return "-" if loss is None or math.isnan(loss) else f"{loss:.4f}"


UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def duration(seconds: float) -> str:
    """A time as people say it: "less than a second", "40 seconds", "5 minutes", "2.5 hours"."""
    return span(seconds, seconds)


def span(least: float, most: float) -> str:
    """A range of times in one unit: "4 to 6 minutes"; one number where both are the same in it."""
    if most < 0.95:
        return "less than a second"
    scale, unit = next((one for one in UNITS if most >= 1.5 * one[0]), UNITS[-1])
    low, high = (_rounded(value / scale) for value in (least, most))
    number = f"{high:g}" if low == high or not low else f"{low:g} to {high:g}"
    return f"{number} {unit if number == '1' else unit + 's'}"


def _rounded(number: float) -> float:
    """Two digits: halves below three, whole numbers to twenty, then fives."""
    step = 0.5 if number < 3 else 1 if number < 20 else 5
    return step * round(number / step)
