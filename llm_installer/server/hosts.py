"""The model directories of one server, each with its engine; a name says which of them a request is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llm_installer.core.text import shortened
from llm_installer.inference.engine.request import Counts
from llm_installer.server.catalogue import Catalogue, Entry, Serves
from llm_installer.server.problems import unknown_model


class EngineOfServer(Serves, Protocol):
    """What a server asks of an engine."""

    fault: str

    @property
    def alive(self) -> bool: ...
    def counts(self) -> Counts: ...
    def close(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Host:
    """A base with its runs, and what answers with them."""

    engine: EngineOfServer
    catalogue: Catalogue

    @property
    def name(self) -> str:
        """What names of its models begin with."""
        return self.catalogue.name


class Hosts:
    """All model directories that are served, the first named one first."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.all = tuple(hosts)

    @property
    def title(self) -> str:
        """The names of the bases."""
        return " and ".join(host.name for host in self.all)

    @property
    def fault(self) -> str:
        """What ended an engine; empty while all of them answer."""
        ended = [host.engine.fault or "it was closed" for host in self.all if not host.engine.alive]
        return ended[0] if ended else ""

    def entries(self) -> list[tuple[Host, Entry]]:
        """Everything that is served now. May wait for the disk."""
        return [(host, entry) for host in self.all for entry in host.catalogue.entries()]

    def find(self, name: str) -> tuple[Host, Entry]:
        """What a request means by `name`. May wait for the disk. Raises Problem for what is not served."""
        host = self.host(name)
        if host is not None:
            return host, host.catalogue.find(name)
        raise unknown_model(shortened(name, 100), [entry.id for _, entry in self.entries()])

    def host(self, name: str) -> Host | None:
        """Whose name it begins with, or is; None for nobody's."""
        mine = [host for host in self.all if f"{name}:".startswith(f"{host.name}:")]
        return max(mine, key=lambda host: len(host.name), default=None)

    def close(self) -> None:
        """End the engines."""
        for host in self.all:
            host.engine.close()
