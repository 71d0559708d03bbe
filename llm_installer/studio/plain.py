"""Plain things that every part of the studio shares, and that need none of its packages: workers have fewer of them."""

from __future__ import annotations

import re

Json = dict[str, object]
LONGEST = 120
"""Bytes of a file's name: file systems take 143 or 255, and what is written beside a file has a longer one."""
_ENDING = re.compile(r"(\.[^.]{1,8})?\.[^.]{1,19}\Z")
TOKEN = "LLM_STUDIO_TOKEN"
"""Environment variable with what shows a studio who its worker is."""
KEY = "llmi-"
"""How keys of accounts begin: programs that look for secrets in texts find them by it."""
ENGINES = ("local", "worker", "colab")
"""Who may take a job: this machine, a worker anywhere, a notebook."""


def plain_name(name: str) -> str:
    """What someone called a file, fit to be the name of one in any folder; its ending stays."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in last).strip(". ")
    ending = found[0] if (found := _ENDING.search(kept)) else ""
    stem = kept.removesuffix(ending).encode()[: LONGEST - len(ending.encode())].decode(errors="ignore")
    return f"{stem}{ending}" or "data"
