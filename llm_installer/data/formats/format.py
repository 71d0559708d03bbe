"""What a format is: the keys it is known by, and what is done with its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from llm_installer.data.formats.converters import Convert
from llm_installer.data.formats.trees import Row
from llm_installer.data.formats.values import Record

Shape = Mapping[str, str]
"""Keys that must be there, each with the kind of container it must hold; "" for any."""


@dataclass(frozen=True, eq=False)
class Format:
    """One way to write an example down."""

    name: str
    """What --dataset-format takes."""
    required: tuple[Shape, ...]
    """The spellings: a record that has all keys of one of them, in containers of that kind, is of this format."""
    convert: Convert
    """Raises Unteachable for a record without anything to learn, or one that breaks the format."""
    note: str
    example: str
    synonyms: tuple[str, ...] = ()
    notice: str = ""
    """What the user should be told once when this format is met."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The format's own key for a target of --columns, where the two differ."""
    spread: Callable[[Record], Iterator[Record]] | None = None
    """One nested record into many flat ones."""
    group: Callable[[Iterable[Row]], Iterator[Row]] | None = None
    """The rows of a whole file into records that mean something alone."""


def shapes(*spellings: str) -> tuple[Shape, ...]:
    """Spellings out of strings such as "messages label:bool"."""
    return tuple({key: kind for key, _, kind in map(_divided, spelling.split())} for spelling in spellings)


def _divided(key: str) -> tuple[str, str, str]:
    return key.partition(":")
