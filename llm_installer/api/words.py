"""Errors in the words of Python: what is a flag on the command line is a keyword here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from llm_installer.core.errors import InstallerError
from llm_installer.planning.keywords import in_python


@contextmanager
def in_words_of_python(given: Mapping[str, object]) -> Iterator[None]:
    """An error names keywords instead of flags."""
    try:
        yield
    except InstallerError as error:
        error.args = (in_python(str(error), given), *error.args[1:])
        raise
