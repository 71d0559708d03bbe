"""How the base is held, as the switches of a command say."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from llm_installer.cli.chat import start
from llm_installer.cli.evals import evaluate_command
from llm_installer.cli.run import run
from llm_installer.cli.serve import serve
from llm_installer.core.errors import UsageError


@pytest.mark.parametrize("command", [start, run, serve, evaluate_command])
@pytest.mark.parametrize("both", [["--use-4bit", "--use-8bit"], ["--use-8bit", "--use-4bit"]])
def test_both_at_once_are_refused(command: click.Command, both: list[str]) -> None:
    found = CliRunner().invoke(command, ["tiny", *both])
    assert isinstance(found.exception, UsageError)
    assert str(found.exception) == "--use-4bit and --use-8bit contradict each other; give one of them"


@pytest.mark.parametrize(("words", "kind"), [([], ""), (["--use-4bit"], "nf4"), (["--use-8bit"], "int8")])
@pytest.mark.parametrize("command", [start, run, serve, evaluate_command])
def test_one_of_them_is_a_kind(command: click.Command, words: list[str], kind: str) -> None:
    assert command.make_context("x", ["tiny", *words]).params["quantised"] == kind
