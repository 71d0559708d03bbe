"""Training rows that the page sends: checked as `train.sh` will read them, then appended to one file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from threading import Lock

import orjson

from llm_installer.core.errors import DataError, DiskError
from llm_installer.core.examples import Example, Origin
from llm_installer.core.files import append_line
from llm_installer.data.formats import convert, find_format

LARGEST = 16 << 20
"""Bytes of one row, its images included."""
ROLES = ("system", "user", "assistant")
KEYS = {"role", "content", "weight"}


def checked_row(body: bytes) -> bytes:
    """One line of JSON lines. Raises DataError, with a sentence, for what could not be trained on as it stands."""
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise DataError("This is not JSON.") from None
    if not isinstance(record, dict) or set(record) != {"messages"} or not isinstance(record["messages"], list):
        raise DataError('A training row is {"messages": [...]}.')
    messages = record["messages"]
    for message in messages:
        if not isinstance(message, dict) or not set(message) <= KEYS or message.get("role") not in ROLES:
            raise DataError("A message has a role, which is system, user or assistant, and a content.")
    if not messages or messages[-1]["role"] != "assistant":
        raise DataError("A training row ends with an answer of the assistant.")
    learned(record)
    return orjson.dumps(record) + b"\n"


def learned(record: dict[str, object]) -> None:
    """Raises DataError unless training would learn something from this record, and read no file for it."""
    found = convert(record, Origin("this row"), find_format("openai"))[0]
    if not isinstance(found, Example):
        raise DataError(f"This row cannot be trained on: {found.reason}.")
    if not found.messages or found.messages[-1].role != "assistant" or not found.messages[-1].supervised:
        raise DataError("This row cannot be trained on: its last answer is empty.")
    if not all(image.startswith("data:image/") for image in found.images):
        raise DataError("Images of a training row are data: addresses.")


class RowsFile:
    """A file of JSON lines that several requests may append to at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()

    def append(self, line: bytes) -> int:
        """Append a line, its end included, and wait for the disk; how many rows there are now. Raises DiskError."""
        try:
            with self._lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                return append_line(self.path, line)
        except OSError as error:  # a DiskError is one, too, and says to start again
            why = os.strerror(error.errno or errno.EIO)
            raise DiskError(f"{self.path} cannot be written: {why}. The row was not saved.", error.errno) from None
