"""Which splits of a dataset are read, and for what, when the user named none."""

from __future__ import annotations

from collections.abc import Sequence

from llm_installer.core.errors import DataError
from llm_installer.data.reading.rows import PARTS


def choose_splits(splits: Sequence[str], asked: str, name: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The splits to read, each with "train", "validation" or "" (the one asked for), and notes on splits not used.

    Raises DataError when `asked` is not among `splits`, or when none is for training.
    """
    if asked:
        if asked not in splits:
            raise DataError(
                f"{name} has no split named {asked}; name one that it has, as in {name}:{splits[0]}{_all(splits)}"
            )
        return [(asked, "")], []
    if len(splits) == 1:
        return [(splits[0], "")], []
    ordered = [split for part in PARTS for split in splits if split.lower() == part]
    train = next((split for split in ordered if PARTS[split.lower()] == "train"), None)
    if train is None:
        raise DataError(f"{name} has no train split; name the one to train on, as in {name}:{splits[0]}{_all(splits)}")
    held_out = next((split for split in ordered if PARTS[split.lower()] == "validation"), None)
    chosen = [(train, "train")] + ([(held_out, "validation")] if held_out else [])
    left = [split for split in splits if split not in (train, held_out)]
    return chosen, [f"{name}: not used: {', '.join(left)}; name one, as in {name}:{left[0]}, to use it"] if left else []


def _all(splits: Sequence[str]) -> str:
    return f" (there are {', '.join(splits)})" if len(splits) > 1 else ""
