"""JSON files of model and adapter folders: an object, or one sentence about what is wrong with the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TypeVar

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.text import counted, short_path, shortened, size

Values = TypeVar("Values")
AGAIN = "install the model again with --force"
_LFS = b"version https://git-lfs.github.com/spec/"
_LARGEST = 1 << 28
_SHOWN = 60


def read_object(
    file: Path, refuse: Callable[[str], InstallerError] = ModelError, again: str = AGAIN
) -> dict[str, object]:
    """The object in a JSON file. Raises `refuse` where there is none; `again` says how to get a better file."""
    shown = short_path(file)
    try:
        if file.exists() and not file.is_file():  # to open a pipe would wait for whoever writes into it
            raise refuse(f"{shown} is not a file; {again}")
        if file.stat().st_size > _LARGEST:
            raise refuse(f"{shown} is too large to be read ({size(file.stat().st_size)}); {again}")
        content = file.read_bytes()
    except FileNotFoundError:
        raise refuse(f"{shown} is missing; is {short_path(file.parent)} a transformers model folder?") from None
    except OSError as error:
        raise refuse(f"{shown} cannot be read ({error.strerror})") from None
    if is_pointer(content):
        raise refuse(pointer(shown))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse(f"{shown} is not valid JSON ({error}); {again}") from None
    return parse_object(text, shown, refuse, again)


def parse_object(
    text: str, shown: str, refuse: Callable[[str], InstallerError] = ModelError, again: str = AGAIN
) -> dict[str, object]:
    """The object in the text of the JSON file `shown`. Raises `refuse` as read_object does."""
    if is_pointer(text[:100].encode()):
        raise refuse(pointer(shown))
    try:
        found = json.loads(text)
    except ValueError as error:
        raise refuse(f"{shown} is not valid JSON ({shortened(str(error))}); {again}") from None
    except RecursionError:
        raise refuse(f"{shown} is not valid JSON (it is nested too deeply); {again}") from None
    if not isinstance(found, dict):
        raise refuse(f"{shown} is not a JSON object; {again}")
    return found


def read_fields(cls: type[Values], file: Path) -> Values | None:
    """An object of a dataclass from the fields in a JSON file of ours; None where there is none, or none readable."""
    assert is_dataclass(cls)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return cls(**{field.name: values[field.name] for field in fields(cls)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def head(file: Path) -> bytes:
    """The first bytes of a file, which is all that is_pointer needs. Raises OSError."""
    with file.open("rb") as content:
        return content.read(100)


def is_pointer(head: bytes) -> bool:
    """Whether a file that begins so is what Git LFS leaves in the place of one that was not downloaded."""
    return head.startswith(_LFS)


def pointer(shown: str) -> str:
    """What to say of such a file."""
    return f"{shown} is a Git LFS pointer and not the file itself; get it with: git lfs pull"


def valued(value: object) -> str:
    """A value of a JSON file as a sentence shows it."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {counted(len(value), 'entry', 'entries')}"
    return shortened(json.dumps(value, ensure_ascii=False), _SHOWN)
