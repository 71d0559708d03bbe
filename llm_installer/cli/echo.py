"""A line of plain text on a terminal or in a pipe, where a command needs no more than that."""

from __future__ import annotations

import sys

import click

from llm_installer.core.text import visible


def echo(text: str, err: bool = False) -> None:
    """Print a line, on stderr if `err`. Whatever in it steers a terminal is escaped."""
    click.echo(visible(text), err=err)


def complain(text: str) -> None:
    """Print a sentence on stderr: wrapped at words on a terminal, and one line elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        return echo(text, err=True)
    from llm_installer.ui.console import Console

    Console(stderr=True).line(text)


def stream(piece: str) -> None:
    """Print a piece of a longer text, which may have several lines, as soon as it is there."""
    print(visible(piece, lines=True), end="", flush=True)
