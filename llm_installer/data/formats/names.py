"""Names of keys, however they are written: Question is question, lossMask is loss_mask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_CAPITAL = {"Human", "Assistant"}
"""Together they are a spelling of their own in the table of formats."""


@lru_cache(maxsize=4096)
def bare(key: str) -> str:
    """A key without case, underscores, hyphens and spaces, to be looked up in a set of such names."""
    return re.sub(r"[\W_]+", "", key).lower()


def in_lower_case(record: Mapping[str, object]) -> Mapping[str, object]:
    """The record with its keys in lower case; the record itself where all are so.

    A key whose lower-case name is there already stays as it is.
    """
    renamed = _renamed(tuple(record))
    return {renamed.get(key, key): value for key, value in record.items()} if renamed else record


# Files have few sets of keys and many rows.
@lru_cache(maxsize=4096)
def _renamed(keys: tuple[object, ...]) -> Mapping[object, str]:
    found: dict[object, str] = {}
    taken = set(keys)
    if taken >= _CAPITAL:
        keys = tuple(key for key in keys if key not in _CAPITAL)
    for key in keys:
        lower = key.lower() if isinstance(key, str) else key
        if isinstance(lower, str) and lower not in taken:
            found[key] = lower
            taken.add(lower)
    return found


@lru_cache(maxsize=4096)
def _as_known(keys: tuple[object, ...], known: tuple[str, ...]) -> Mapping[object, str]:
    meant = {bare(name): name for name in known}
    found: dict[object, str] = {}
    for key in keys:
        name = meant.get(bare(key)) if isinstance(key, str) and key not in known else None
        if name and name not in keys and name not in found.values():
            found[key] = name
    return found


def by_known_names(record: Mapping[str, object], known: tuple[str, ...]) -> Mapping[str, object]:
    """The record with keys that are `known` names in another spelling, as toolCalls is tool_calls, under those names.

    A key whose name is there already stays as it is.
    """
    renamed = _as_known(tuple(record), known)
    return {renamed.get(key, key): value for key, value in record.items()} if renamed else record
