"""Lists that users type as NAME=VALUE,NAME=VALUE."""

from __future__ import annotations

import re

from llm_installer.core.errors import UsageError

_PAIR = re.compile(r"\s*(?P<name>.+?)=(?P<value>[^,=]*)(?:,|$)")


def parse_pairs(text: str, flag: str) -> dict[str, str]:
    """The values by name. A name may hold commas and = itself. Raises UsageError for anything else."""
    pairs: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = _PAIR.match(text, place)
        if not found or not found["value"].strip():
            raise UsageError(f"{flag} cannot be read at '{text[place:]}': write it as {flag} FILE=VALUE,FILE=VALUE")
        if found["name"] in pairs:
            raise UsageError(f"{flag} names '{found['name']}' twice; name it once")
        pairs[found["name"]] = found["value"].strip()
        place = found.end()
    return pairs
