"""Which address a message may go to: asked when a hook is made, and again before every message.

`Addresses` is what the studio is given for that; `public` is what it takes where it is given nothing else.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

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
    try:
        parts = urlsplit(url if len(url) <= _LONGEST and url.isprintable() else "")
    except ValueError:  # such as half of an address in brackets
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment:
        raise BadAddress(f"{url[:80]!r} is not an address such as https://example.org/hook")
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise BadAddress(f"{parts.hostname} has no address ({error})") from None
    numbers = [str(row[4][0]) for row in found]
    if inside := next((number for number in numbers if not _outside(number)), None):
        raise BadAddress(f"{parts.hostname} is {inside}, which is not on the public internet")
    return numbers[0]


def _outside(number: str) -> bool:
    address = ipaddress.ip_address(number.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (mapped is None or mapped.is_global)
