"""What is asked of a server, and whether it can be: light to import."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.hints import pip
from llm_installer.core.paths import ModelDir

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""
ENGINES = ("own", "vllm")


@dataclass(frozen=True)
class ServeRequest:
    """Where to listen, who may ask, and how much is taken at once."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = ""
    """Whoever asks must send it; empty: nobody has to, which only loopback allows."""
    engine: str = "own"
    """One of ENGINES."""
    quantised: str = ""
    """A name of planning.method.QUANTISED; empty for the base as it is."""
    rows: int = 32
    """Answers generated at the same time."""
    queue: int = 256
    """Requests that may wait."""
    cache_gib: float = 2.0
    """Memory for keys and values, in GiB."""
    max_tokens: int = 1024
    """Longest answer to a chat that names no limit of its own."""
    body_bytes: int = 20 << 20
    """Longest request."""
    patience: float = 30.0
    """Seconds after which a client that reads nothing is cut off."""
    heartbeat: float = 10.0
    """Seconds without news after which a stream says that it is alive."""


@dataclass(frozen=True)
class ServedModel:
    """A model that can be asked for, as the start of a server shows it."""

    name: str
    words: str
    """Its score, or what it stands for."""


@dataclass(frozen=True)
class Serving:
    """A server that is about to take requests."""

    folders: tuple[ModelDir, ...]
    address: str
    """With its scheme, host and port."""
    needs_key: bool
    models: tuple[ServedModel, ...]
    """Examples use the last."""


def check(request: ServeRequest, models: int = 1) -> None:
    """Raise UsageError where the network would reach a server that asks for no key, or the engine cannot hold the base
    so, or not so many `models`, and InstallerError where what serves is not installed."""
    if models > 1 and request.engine == "vllm":
        raise UsageError("A vLLM serves one base; name one model, and start another vLLM with --port for the next")
    if request.host not in LOOPBACK and not request.api_key:
        raise UsageError(
            f"--host {request.host} lets others on the network use this server; add --api-key KEY, or leave --host out"
        )
    if not request.api_key.isascii() or any(c.isspace() for c in request.api_key):
        raise UsageError("--api-key may have no spaces and only ASCII characters, since it is sent in a header")
    if request.engine == "vllm":
        if request.quantised:
            raise UsageError("--engine vllm holds the base as its files are; leave out --use-4bit and --use-8bit")
        usual = ServeRequest()
        for name in ("queue", "cache_gib", "max_tokens"):
            if getattr(request, name) != getattr(usual, name):
                words = "vLLM has limits of its own for its queue, its memory and the length of answers"
                raise UsageError(f"{words}; leave out --{name.replace('_', '-')}")
        return
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn")):
        raise InstallerError(
            f"Serving needs the packages fastapi and uvicorn; install them with: {pip('fastapi uvicorn')}"
        )
