"""What passes from the finder of data to its readers, and from those on: sources and raw records."""

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
"""Names of splits and what they are used for here; where a dataset has several, the first is taken."""


@dataclass(frozen=True)
class Source:
    """One thing to read: a file, a member of a zip, or one split of a saved or hub dataset."""

    path: Path
    """Absolute: a file, or a folder that datasets.save_to_disk wrote. For a hub dataset, its id as a path."""
    name: str
    """As shown to the user: relative to the caller's folder when below it; `a.zip!b.jsonl` for a member."""
    member: str = ""
    """Name inside the zip."""
    split: str = ""
    part: str = ""
    """What all rows are used for, "train" or "validation"; "" where the source does not say."""
    hub: str = ""
    """Id on the hub, with the configuration in `config`."""
    config: str = ""
    text_rows: str = ""
    """What a row of plain text is, a name of text_rows.ROWS; "" to decide it from the file."""


@dataclass(frozen=True, slots=True)
class Row:
    """One raw record: a dict, a str for a line of plain text, or whatever other value the file has."""

    value: object
    origin: Origin
    part: str = ""
    ends: bool = True
    """False for a piece of plain text that goes on in the next row."""


def data_suffix(name: str) -> str:
    """The suffix that says how to read a file, in lower case: ".json" for "a.json" and "a.json.gz"."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-2:]]
    if len(suffixes) == 2 and suffixes[1] == ".gz":
        return suffixes[0]
    return suffixes[-1] if suffixes else ""
