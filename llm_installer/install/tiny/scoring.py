"""Whether a reply is right: whether it contains one of the accepted answers, as complete words."""

import re
from collections.abc import Sequence


def is_right(reply: str, accept: Sequence[str]) -> bool:
    """True if the reply contains any of the accepted answers; case and punctuation do not matter."""
    padded = f" {_fold(reply)} "
    return any(f" {folded} " in padded for folded in map(_fold, accept) if folded)


def _fold(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
