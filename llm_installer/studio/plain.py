"""Plain things that every part of the studio shares, and that need none of its packages: workers have fewer of them."""

from __future__ import annotations

Json = dict[str, object]
LONGEST = 120
"""Characters of a file's name."""
TOKEN = "LLM_STUDIO_TOKEN"
"""Environment variable with what shows a studio who its worker is."""
KEY = "llmi-"
"""How keys of accounts begin: programs that look for secrets in texts find them by it."""
ENGINES = ("local", "worker", "colab")
"""Who may take a job: this machine, a worker anywhere, a notebook."""


def plain_name(name: str) -> str:
    """What someone called a file, fit to be the name of one in any folder; its suffix stays."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in last).strip(". ")
    stem, dot, suffix = kept.rpartition(".")
    short = f"{stem[: LONGEST - len(suffix) - 1]}{dot}{suffix}" if len(suffix) < 20 else kept[:LONGEST]
    return short or "data"
