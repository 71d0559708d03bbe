"""What passes between the finder of data and its readers: a source, and the raw records read from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llm_installer.core.examples import Origin

PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "validation",
}
"""Names under which data say what they are for, the better ones first, and what that is here."""


@dataclass(frozen=True)
class Source:
    """One thing to read: a file, a member of a zip, or one split of a saved or hub dataset."""

    path: Path
    """Absolute; a file, or the folder that datasets.save_to_disk wrote. The id as a path for a hub dataset."""
    name: str
    """As shown to the user: relative to the caller's folder when below it; `a.zip!b.jsonl` for a member."""
    member: str = ""
    """Name inside the zip."""
    split: str = ""
    part: str = ""
    """What every row is for, "train" or "validation", when the dataset has splits and all were asked for."""
    hub: str = ""
    """Id on the hub, with the configuration in `config`."""
    config: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One raw record: a dict, a str for a line of plain text, or whatever other value the file has."""

    value: object
    origin: Origin
    part: str = ""


def data_suffix(name: str) -> str:
    """The suffix that says how to read a file, in lower case; `.gz` around it is looked through."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-2:]]
    if len(suffixes) == 2 and suffixes[1] == ".gz":
        return suffixes[0]
    return suffixes[-1] if suffixes else ""


def shortened(text: str, limit: int = 80) -> str:
    """One line of at most `limit` characters, for a message."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
