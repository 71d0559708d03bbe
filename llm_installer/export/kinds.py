"""The ways in which a model leaves for other programs: one row of KINDS each. Nothing of this loads a model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TypedDict, cast

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.hints import pip
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Voice
from llm_installer.export.gguf.receipt import LIMITS, FileReceipt
from llm_installer.export.pairs.receipt import PAIR_LIMITS, PairReceipt


@dataclass(frozen=True)
class ExportRequest:
    """What is exported, and into what."""

    to: str = "gguf"
    """The name of one of KINDS."""
    out: str | None = None
    """The file or folder; None for one in the model directory."""
    type: str | None = None
    """Of the weights; None for the usual one of its kind."""
    run: str | None = None
    """A run: its id, a part of it, or `last`."""
    lora: str | None = None
    """The folder of an adapter; None for the run's, or ./lora."""
    no_lora: bool = False
    """Whether the model is meant without its adapter."""
    as_adapter: bool = False
    """Whether base and adapter stay two files."""


class ExportOptions(TypedDict, total=False):
    """The keywords of api.export beside paths: the fields of ExportRequest."""

    to: str
    type: str | None
    run: str | None
    no_lora: bool
    as_adapter: bool


@dataclass(frozen=True)
class Exported:
    """A file or folder that was compared with the model."""

    file: Path
    receipt_file: Path
    name: str
    """Of the model, with the run that was merged into it."""
    bytes: int
    receipts: tuple[FileReceipt | PairReceipt, ...]
    """Of each file with weights in it."""
    indivisible: tuple[str, ...] = ()
    """Tensors that are f16, since their rows cannot be cut into blocks."""
    notes: tuple[str, ...] = ()
    """What whoever uses it should know, a sentence each."""
    commands: tuple[str, ...] = ()
    """What to type to use it."""

    @property
    def receipt(self) -> FileReceipt | PairReceipt:
        """That of the first file."""
        return self.receipts[0]


@dataclass(frozen=True)
class Kind:
    """One way."""

    name: str
    words: str
    """What it is, for a list."""
    story: str
    """The function that makes it, as module:name; it gets the model directory, the request and a voice."""
    types: tuple[str, ...]
    """Of the weights, the usual one first."""
    package: str = ""
    """What must be installed for it."""
    takes: tuple[str, ...] = ()
    """Which of the options no_lora and as_adapter mean something for it."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "gguf",
            "one file for llama.cpp and LM Studio, with the adapter merged in",
            "llm_installer.export.gguf.story:export_gguf",
            ("f16", *(each for each in LIMITS if each != "f16")),
            "gguf",
            ("no_lora",),
        ),
        Kind(
            "gguf-lora",
            "the adapter alone for llama.cpp, to be used on the GGUF of its base",
            "llm_installer.export.pairs.story:export_pairs",
            ("f32", "f16"),
            "gguf",
        ),
        Kind(
            "ollama",
            "a folder with a GGUF file and the Modelfile for it",
            "llm_installer.export.ollama.story:export_ollama",
            ("f16", *(each for each in LIMITS if each != "f16")),
            "gguf",
            ("no_lora", "as_adapter"),
        ),
        Kind(
            "mlx",
            "the adapter alone for mlx-lm on a Mac",
            "llm_installer.export.pairs.story:export_pairs",
            tuple(PAIR_LIMITS)[:1],
        ),
    )
}
"""By their names."""
TYPES = tuple(dict.fromkeys(each for kind in KINDS.values() for each in kind.types))
"""All types that some kind can be stored in."""
Story = Callable[[ModelDir, ExportRequest, Voice], Exported]


def export_as(folder: ModelDir, request: ExportRequest, voice: Voice) -> Exported:
    """Make what is asked for. Raises UsageError for words that make no sense, and InstallerError where the package that
    it takes is not installed, both before anything is read."""
    kind = chosen_kind(request)
    require(kind)
    module, _, name = kind.story.partition(":")
    story = cast(Story, getattr(import_module(module), name))
    return story(folder, request, voice)


def chosen_kind(request: ExportRequest) -> Kind:
    """The row that is meant. Raises UsageError for one that is not there, and for options that it does not take."""
    kind = KINDS.get(request.to)
    if kind is None:
        raise UsageError(f"--to {request.to} is none of {', '.join(KINDS)}")
    if request.type not in (None, *kind.types):
        raise UsageError(
            f"--type {request.type} is none of {', '.join(kind.types)}, in which {kind.name} can be stored"
        )
    for option in ("no_lora", "as_adapter"):
        if getattr(request, option) and option not in kind.takes:
            raise UsageError(f"--{option.replace('_', '-')} means nothing for --to {kind.name}; leave it out")
    given = [name for name in ("run", "lora", "no_lora") if getattr(request, name)]
    if len(given) > 1:
        one, other = (f"--{name.replace('_', '-')}" for name in given[:2])
        raise UsageError(f"{one} and {other} contradict each other; give one of them")
    if request.no_lora and request.as_adapter:
        raise UsageError("--no-lora and --as-adapter contradict each other; give one of them")
    return kind


def type_of(request: ExportRequest) -> str:
    """The type of the weights that is asked for, or the usual one."""
    return request.type or KINDS[request.to].types[0]


def require(kind: Kind) -> None:
    """Raise InstallerError where the package that it takes is not installed."""
    if kind.package and importlib.util.find_spec(kind.package) is None:
        raise InstallerError(
            f"GGUF files are written with the package {kind.package}; install it with: {pip(kind.package)}"
        )
