"""The field of a file that an error of a library is about: transformers and PEFT look names up in their own tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from llm_installer.core.config import zero_sizes
from llm_installer.core.errors import InstallerError
from llm_installer.core.json_file import read_object
from llm_installer.core.text import short_path, shortened

_LONGEST = 200
_DEEPEST = 20
_QUOTED = re.compile(r"[`'\"](\w+)(?=[`'\"=])")
_FRAME = re.compile(r"(Class v|V)alidation error for (field|validator) '\w*':\s*\w+: ")
"""What huggingface_hub puts before the words of its dataclasses."""


def blamed(error: BaseException, files: Iterable[Path], library: str) -> str:
    """What to say of the field of one of these JSON files that an error of the library is about; empty where it is
    about none."""
    for file in files:
        try:
            content = read_object(file)
        except InstallerError:  # missing, or not what the library failed at
            continue
        found = list(_fields(content))
        if (
            said := _unknown(error, found, library)
            or _no_pattern(error, found)
            or _zero(error, content)
            or _named(error, found)
        ):
            place, what = said
            return f"{shortened(place, 80)} in {short_path(file)} {what}"
    return ""


def words(error: BaseException) -> str:
    """What an error says, without what its class puts around it; of a KeyError that is the text itself."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
    return _FRAME.sub("", str(text)).replace(":\n", ": ").strip().rstrip(".")


_Field = tuple[str, str, object]
_Said = tuple[str, str]


def _fields(content: object, place: str = "", depth: int = 0) -> Iterator[_Field]:
    """Dotted place, name and value of every field; of a list each entry by itself, too."""
    if not isinstance(content, dict) or depth > _DEEPEST:
        return
    for name, value in content.items():
        yield f"{place}{name}", name, value
        yield from ((f"{place}{name}", name, each) for each in (value if isinstance(value, list) else ()))
        yield from _fields(value, f"{place}{name}.", depth + 1)


def _unknown(error: BaseException, found: list[_Field], library: str) -> _Said | None:
    """The field that holds a name which a table of the library, or one of its modules, does not."""
    key = error.args[0] if isinstance(error, LookupError) and error.args else getattr(error, "name", None)
    for place, _, value in found:
        if isinstance(key, str) and value == key:
            shown = shortened(json.dumps(key), 60)
            return place, f"is {shown}, which this version of {library} does not know, and a newer one may"
    return None


def _no_pattern(error: BaseException, found: list[_Field]) -> _Said | None:
    """The field with a regular expression that is none."""
    for place, _, value in found:
        if isinstance(error, re.error) and value == error.pattern:
            return place, f"is no regular expression: {error.msg}"
    return None


def _zero(error: BaseException, content: dict[str, object]) -> _Said | None:
    """A size that the library divides by."""
    zeros = zero_sizes(content) if isinstance(error, ArithmeticError) else []
    return (" and ".join(zeros), f"{'is' if len(zeros) == 1 else 'are'} 0") if zeros else None


def _named(error: BaseException, found: list[_Field]) -> _Said | None:
    """The first field that the words of the error name in quotes."""
    text = words(error)
    places = {name: place for place, name, _ in reversed(found)}
    name = next((each for each in _QUOTED.findall(text) if each in places), "")
    return (places[name], f"does not fit: {shortened(text, _LONGEST)}") if name else None
