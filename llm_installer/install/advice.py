"""What to do about wrong files of a model: that depends on where they are, and on what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import AGAIN
from llm_installer.core.paths import ModelDir
from llm_installer.install.resolve import Source

_INSTEAD = {
    "built-in": "install the program again",
    "folder": "copy the folder again from where it was made",
    "hub": "choose another model, or another revision with --revision",
}


@contextmanager
def advising(source: Source) -> Iterator[None]:
    """Errors over the files of `source` say what helps there: a new install does so only for one that is installed."""
    try:
        yield
    except ModelError as error:
        if AGAIN not in str(error) or ModelDir(source.folder.parent).info.is_file():
            raise
        raise type(error)(str(error).replace(AGAIN, _INSTEAD[source.kind])) from None
