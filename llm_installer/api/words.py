"""Errors in the words of Python: what is a flag on the command line is a keyword here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.hints import suggest
from llm_installer.planning.keywords import in_python

_NAMES = ("run", "lora", "to", "out", "repo")
"""Keywords that name something, which is another than nothing."""


@contextmanager
def in_words_of_python(given: Mapping[str, object]) -> Iterator[None]:
    """An error names keywords instead of flags. Raises UsageError for a name that is empty."""
    for name in _NAMES:
        if isinstance(value := given.get(name), str) and not value.strip():
            raise UsageError(f"{name}={value!r}: it is empty; give a value, or leave it out")
    try:
        yield
    except InstallerError as error:
        error.args = (in_python(str(error), given), *error.args[1:])
        raise


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise UsageError for a keyword that there is not."""
    names = [*known]
    for name in given:
        if name not in names:
            raise UsageError(f"There is no option {name!r}{suggest(name, names)}")
