"""Commands whose answer is one JSON object on stdout, an error too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click

from llm_installer.core.errors import InstallerError
from llm_installer.core.text import visible


def print_json(values: Mapping[str, object]) -> None:
    """One JSON object for other programs; nothing in it steers a terminal."""
    from llm_installer.data.document import as_json

    click.echo(visible(as_json(values), lines=True))


@contextmanager
def errors_as_json(wanted: bool) -> Iterator[None]:
    """Print an error as an object, too, where `wanted`; the sentence on stderr and the exit code stay as they are."""
    try:
        yield
    except InstallerError as error:
        if wanted:
            print_json({"error": str(error)})
        raise
