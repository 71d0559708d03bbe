"""What a format is: the keys that identify it, and how its records are converted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from llm_installer.data.formats.converters import Convert
from llm_installer.data.formats.oasst import Row
from llm_installer.data.formats.values import Record

Shape = Mapping[str, str]
"""Required keys, each with the kind of container it must hold; "" for any."""


@dataclass(frozen=True, eq=False)
class Format:
    """One way to write an example down."""

    name: str
    """What --dataset-format takes."""
    required: tuple[Shape, ...]
    """The spellings: a record with all keys of one of them, in containers of that kind, has this format."""
    convert: Convert
    """Raises SkipRecord for a record without anything to train on, or one that breaks the format."""
    note: str
    example: str
    synonyms: tuple[str, ...] = ()
    notice: str = ""
    """What the user is told once when this format is found, as the end of a sentence about its records."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The format's own key for a target of --columns, where the two differ."""
    when_asked: tuple[Shape, ...] = ()
    """Spellings that are read so only where the user names the format."""
    spread: Callable[[Record], Iterator[Record]] | None = None
    """Splits one nested record into many flat ones."""
    group: Callable[[Iterable[Row]], Iterator[Row]] | None = None
    """Puts the rows of a whole file together to records that mean something alone."""

    @property
    def said(self) -> str:
        """The notice as a whole sentence; empty where there is none."""
        return f"In records of format {self.name}, {self.notice}" if self.notice else ""


def shapes(*spellings: str) -> tuple[Shape, ...]:
    """Spellings from strings such as "messages label:bool": keys, each with its kind of container."""
    return tuple({key: kind for key, _, kind in map(_divided, spelling.split())} for spelling in spellings)


def _divided(key: str) -> tuple[str, str, str]:
    return key.partition(":")
