"""Connections to where somebody else's name or address leads: to public addresses alone.

`decided` is the one function that decides. Clients that follow redirects use `public_transport`: it connects to the
address that was decided, at every redirect again, so a name that means something else a moment later changes nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from llm_installer.core.errors import InstallerError

if TYPE_CHECKING:
    import httpx2

PUBLIC_ONLY = "LLM_INSTALLER_PUBLIC_ONLY"
"""Environment variable: names come from people who do not own this machine. The studio sets it for all it starts."""
Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Iterable[str]]
"""The addresses of a name, as texts."""
_EMBEDDING = tuple(IPv6Network(one) for one in ("64:ff9b::/96", "::/96"))
"""IPv6 addresses whose last 32 bits are an IPv4 address that a packet may end up at."""
_NEITHER = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001::/23", "3fff::/20", "5f00::/16"))
)
"""Networks that older versions of Python take for public; a cloud's own services are in the first."""


class NotPublic(InstallerError):
    """A name or an address leads to this machine, to its network, or nowhere."""


def resolved(host: str, port: int) -> list[str]:
    """The addresses that the system knows for a name. It also reads 127.1, 0x7f000001 and 2130706433 as numbers."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotPublic(f"There is no host {host!r}") from None
    return [str(one[4][0]) for one in found]


def is_public(text: str) -> bool:
    """Whether an address is one of the internet's: not of this machine, of its network, of a cloud's own services."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(_global(one) for one in (address, *_inside(address)))


def _global(address: Address) -> bool:
    local = isinstance(address, IPv6Address) and address.is_site_local
    local = local or any(address.version == one.version and address in one for one in _NEITHER)
    return address.is_global and not address.is_multicast and not address.is_reserved and not local


def _inside(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address stands for: mapped, 6to4, Teredo, translated."""
    if isinstance(address, IPv4Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _EMBEDDING):
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def decided(host: str, port: int, resolver: Resolver = resolved) -> str:
    """The address to connect to for a name. Raises NotPublic where any of its addresses is not public: a name that has
    both kinds is a trap."""
    found = list(resolver(host.strip("[]"), port))
    if not found or not all(is_public(one) for one in found):
        raise NotPublic(f"{host} is not on the public internet, so nothing is fetched from there")
    return found[0]


def checked_url(url: str, schemes: tuple[str, ...] = ("https",)) -> str:
    """An address that somebody typed, for later use. Raises NotPublic; where it leads is decided when it is used."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NotPublic(f"{url[:80]!r} is not an address") from None
    plain = url.isascii() and url.isprintable() and not any(c in url for c in " #\\")
    if parts.scheme not in schemes or not parts.hostname or "@" in parts.netloc or not plain or port == 0:
        raise NotPublic(f"{url[:80]!r} is not an address such as {schemes[0]}://example.org/hook")
    return url


def public_transport(
    resolver: Resolver = resolved, trusted: Iterable[str] = (), verify: bool = True
) -> httpx2.BaseTransport:
    """A transport that connects to public addresses, and to `trusted` (host:port of the owner of this machine)."""
    import httpx2

    class Public(httpx2.BaseTransport):
        """One ordinary transport for each host, each connected to the address that was decided."""

        def __init__(self) -> None:
            self._of: dict[tuple[str, str, int, str], httpx2.HTTPTransport] = {}

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            """Decide, then connect to just that."""
            scheme, host = request.url.scheme, request.url.host
            port = request.url.port or (443 if scheme == "https" else 80)
            if f"{host}:{port}" in known:
                return self._transport(scheme, host, port, host).handle_request(request)
            address = decided(host, port, resolver)
            shown = f"[{address}]" if ":" in address else address
            sent = httpx2.Request(
                request.method,
                request.url.copy_with(host=shown),
                headers=request.headers,  # Host among them: it names the host, as does the certificate
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            answer = self._transport(scheme, host, port, address).handle_request(sent)
            answer.request = request
            return answer

        def _transport(self, *key: str | int) -> httpx2.HTTPTransport:
            return self._of.setdefault(key, httpx2.HTTPTransport(verify=verify))  # type: ignore[arg-type]

        def close(self) -> None:
            """Close every connection."""
            for one in self._of.values():
                one.close()

    known = frozenset(trusted)
    return Public()


def guard_the_hub() -> None:
    """Where PUBLIC_ONLY is set, the hub's client leaves the internet at no redirect; its own address is trusted."""
    if not os.environ.get(PUBLIC_ONLY):
        return
    from huggingface_hub import set_client_factory

    set_client_factory(hub_client)


def hub_client() -> httpx2.Client:
    """The client of the hub: behind a proxy that finds hosts by itself, addresses in numbers are all that is seen."""
    import httpx2
    from huggingface_hub.utils._http import hf_request_event_hook

    hooks = {"request": [hf_request_event_hook]}
    if getproxies().keys() - {"no"}:
        hooks["request"].append(_refuse_numbers)
        return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None)
    transport = public_transport(trusted=_endpoint())
    return httpx2.Client(transport=transport, event_hooks=hooks, follow_redirects=True, timeout=None)


def _endpoint() -> list[str]:
    """host:port of HF_ENDPOINT, which only the owner of this machine sets."""
    parts = urlsplit(os.environ.get("HF_ENDPOINT", ""))
    if not parts.hostname:
        return []
    return [f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"]


def _refuse_numbers(request: httpx2.Request) -> None:
    host, port = request.url.host, request.url.port
    if f"{host}:{port or (443 if request.url.scheme == 'https' else 80)}" in _endpoint():
        return
    number = host.rpartition(".")[2][:1].isdigit() or ":" in host
    if (number and not all(map(is_public, resolved(host, 0)))) or host.rstrip(".").endswith("localhost"):
        raise NotPublic(f"{host} is not on the public internet, so nothing is fetched from there")
