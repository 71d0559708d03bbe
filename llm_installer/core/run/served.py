"""Which runs of a model directory a server has in memory: a file for each server, unlocked at its death by the system.

A file is locked before it gets its name, so that one that can be locked belongs to a server that has ended.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import lock_descriptor, unlock_descriptor

from llm_installer.core.paths import ModelDir

_PATTERN = ".serving-*.json"
_START = 1
"""Byte 0 is what Windows locks, and nobody else can read a locked byte there."""


@dataclass(frozen=True)
class Server:
    """A server of a model directory."""

    pid: int
    """0 where it cannot be read."""
    address: str
    runs: tuple[str, ...]
    """Ids of the runs that it serves."""

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        return f"{who} ({self.address})" if self.address else who


class ServedRuns:
    """The runs that this process serves, told to others until `close`."""

    def __init__(self, folder: ModelDir, address: str) -> None:
        """Raises OSError where `folder` cannot be written to."""
        self._address = address
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        hidden = folder.root / f".serving-{name}.new"
        self._path = folder.root / f".serving-{name}.json"
        self._file = hidden.open("w+b", buffering=0)
        lock_descriptor(self._file.fileno(), blocking=False)
        self.tell(())
        hidden.rename(self._path)

    def tell(self, runs: Sequence[str]) -> None:
        """These are served from now on."""
        text = json.dumps({"pid": os.getpid(), "address": self._address, "runs": [*runs]}).encode()
        self._file.seek(_START)
        self._file.write(text + b"\n")
        self._file.truncate()

    def close(self) -> None:
        """None is served any more."""
        self._path.unlink(missing_ok=True)
        with self._file:
            unlock_descriptor(self._file.fileno())


def servers(folder: ModelDir) -> list[Server]:
    """Those that are running. Files that a killed one left behind are removed."""
    found = (_running(file) for file in sorted(folder.root.glob(_PATTERN)))
    return [server for server in found if server]


def server_of(folder: ModelDir, run: str) -> Server | None:
    """The server that has a run of this id in memory, or may have."""
    return next((server for server in servers(folder) if run in server.runs or not server.pid), None)


def _running(path: Path) -> Server | None:
    try:
        with path.open("r+b", buffering=0) as file:
            if lock_descriptor(file.fileno(), blocking=False):
                _forget(path, file)
                return None
            file.seek(_START)
            return _read(file.read() or b"")
    except OSError:  # it ended this moment, or is somebody else's, who then removes runs, too
        return None


def _forget(path: Path, file: IO[bytes]) -> None:
    path.unlink(missing_ok=True)
    unlock_descriptor(file.fileno())


def _read(text: bytes) -> Server:
    try:
        value = json.loads(text)
        return Server(int(value["pid"]), str(value["address"]), tuple(map(str, value["runs"])))
    except (ValueError, KeyError, TypeError):  # it is being written
        return Server(0, "", ())
