"""The address of a server is taken, and signals end it: what every server of this program does alike."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from llm_installer.core.errors import InstallerError, UsageError

WAITING = 2048
"""Connections that may wait to be taken."""


def address_of(host: str, port: int) -> str:
    """What clients on this machine use."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that has the address; who connects waits until the model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
            found.listen(WAITING)
        except OSError as error:
            raise _unbindable(host, port, error) from None
        yield found


def _unbindable(host: str, port: int, error: OSError) -> InstallerError:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 8000
        return UsageError(f"Port {port} of {host} is in use already; choose another one, for example: --port {other}")
    if error.errno == errno.EACCES:
        return UsageError(f"Port {port} is kept for the system; choose one from 1024 on, for example: --port 8000")
    return UsageError(f"{host} is not an address of this machine ({error.strerror or error}); leave --host out")


@contextmanager
def signals_stay_here() -> Iterator[None]:
    """uvicorn raises again the signals that ended it, which here is how a server is meant to end."""
    try:
        before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
