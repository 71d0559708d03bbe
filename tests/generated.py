"""How many cases the tests with generated values look at: LLM_FUZZ=1 pytest asks for all, by default it is a third."""

from __future__ import annotations

import os

ALL = os.environ.get("LLM_FUZZ", "") not in ("", "0")


def many(cases: int) -> int:
    """This many where they are asked for; else a third, drawn anew in every run."""
    return cases if ALL else max(10, cases // 3)
