"""Which address a message may go to: asked when a hook is made, and again before every message.

`Addresses` is what the studio is given for that; `public` is what it takes where it is given nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from llm_installer.core.outward import NotPublic, checked_url, decided
from llm_installer.studio.store.refusals import Refused

Addresses = Callable[[str], str]
"""The IP address to connect to for a URL, looked up once and checked. Raises Refused with a sentence."""
_LONGEST = 2000


class BadAddress(Refused):
    """A URL that nothing is sent to."""

    status = 400
    code = "invalid_url"


def public(url: str) -> str:
    """https, and a host all of whose addresses are on the public internet."""
    if len(url) > _LONGEST:
        raise BadAddress(f"An address has at most {_LONGEST:,} characters")
    try:
        parts = urlsplit(checked_url(url))
        return decided(str(parts.hostname), parts.port or 443)
    except NotPublic as error:
        raise BadAddress(str(error)) from None
