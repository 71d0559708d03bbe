"""Which of many cases the default suite looks at, where each takes long and all of them go the same way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.generated import ALL

minutes = pytest.mark.skipif(not ALL, reason="takes minutes; LLM_FUZZ=1 runs it")
"""Beside `slow`: what takes minutes, and whose kind a shorter test looks at, is only run when asked for."""

LONG = Path(__file__).with_name("long.txt")
"""Tests that the clock made slow, a name in each line."""
RARE = Path(__file__).with_name("minutes.txt")
"""Slow tests that are `minutes` as well."""


def names_in(file: Path) -> frozenset[str]:
    """The names of tests in such a list, as pytest writes them."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return frozenset(line for line in lines if line and not line.startswith("#"))


def first_here(cases: Iterable[Any], here: int = 1) -> list[Any]:
    """Cases for `parametrize`: the first in the default suite, all others in the slow one."""
    first, rest = list(cases)[:here], list(cases)[here:]
    values = (case if isinstance(case, tuple) else (case,) for case in rest)
    return [*first, *(pytest.param(*each, marks=pytest.mark.slow) for each in values)]
