"""The same numbers by source: by file where there are several, else by a column that says where a row is from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from llm_installer.evals.items import Item
from llm_installer.evals.result import Group
from llm_installer.evals.scores import Scored

MOST = 40
"""More values than that are no sources."""


def groups_of(scored: Sequence[Scored], items: Sequence[Item]) -> list[Group]:
    """One group for each source, the largest first; none where there is one source only."""
    names = _sources(items)
    if not names:
        return []
    found: list[Group] = []
    for name, count in Counter(names).most_common():
        at = np.flatnonzero([each == name for each in names])
        found.append(Group(name, count, {one.passed.name: one.of(list(at)) for one in scored}))
    return found


def _sources(items: Sequence[Item]) -> list[str]:
    for names in ([item.example.origin.file for item in items], [item.group or "(none)" for item in items]):
        if 1 < len(set(names)) <= MOST:
            return names
    return []
