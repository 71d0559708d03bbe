"""Says whether a reply is right: whether it holds one of the accepted answers as whole words."""

import re
from collections.abc import Sequence


def is_right(reply: str, accept: Sequence[str]) -> bool:
    """True if any of the accepted answers stands in the reply, whatever its case and the punctuation around it."""
    padded = f" {_fold(reply)} "
    return any(f" {folded} " in padded for folded in map(_fold, accept) if folded)


def _fold(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
