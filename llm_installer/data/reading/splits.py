"""Which splits of a dataset to read, and what for, when the user did not say."""

from __future__ import annotations

from collections.abc import Sequence

from llm_installer.core.errors import DataError
from llm_installer.data.reading.rows import PARTS


def choose_splits(splits: Sequence[str], asked: str, name: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs of a split and its part ("" for the one asked for), and notes about what is left out."""
    if asked:
        if asked not in splits:
            raise DataError(f"{name} has no split {asked}; name one of its own, as in {name}:{splits[0]}{_all(splits)}")
        return [(asked, "")], []
    if len(splits) == 1:
        return [(splits[0], "")], []
    ordered = [split for part in PARTS for split in splits if split.lower() == part]
    train = next((split for split in ordered if PARTS[split.lower()] == "train"), None)
    if train is None:
        raise DataError(f"{name} has no split train; say which to learn from, as in {name}:{splits[0]}{_all(splits)}")
    held_out = next((split for split in ordered if PARTS[split.lower()] == "validation"), None)
    chosen = [(train, "train")] + ([(held_out, "validation")] if held_out else [])
    left = [split for split in splits if split not in (train, held_out)]
    return chosen, [f"{name}: not used: {', '.join(left)}; ask for one as {name}:{left[0]}"] if left else []


def _all(splits: Sequence[str]) -> str:
    return f" (there are {', '.join(splits)})" if len(splits) > 1 else ""
