"""How a hostile file is judged: through the data command in this process, and again by what was read, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from llm_installer.cli.main import cli
from llm_installer.core.errors import InstallerError
from llm_installer.core.examples import Example, Message
from llm_installer.data.prepare import Given, read
from llm_installer.planning.options import Options

COUNTS = ("examples", "train", "validation", "duplicates", "dropped_count")
Verdict = tuple[int, ...] | str
Expected = tuple[int, ...] | str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The caller's folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def verdict(here: Path) -> Callable[..., Verdict]:
    """Runs `llm-installer data ... --json`: the counts, or the one sentence of the error."""

    def run(*arguments: str) -> Verdict:
        result = CliRunner().invoke(cli, ["data", *arguments, "--json"], standalone_mode=False)
        if result.exception is not None:
            assert isinstance(result.exception, InstallerError), repr(result.exception)
            message = str(result.exception)
            assert message and len(message) < 1200 and "Traceback" not in message
            return message
        report = json.loads(result.stdout_bytes.decode("utf-8"), parse_constant=pytest.fail)
        files = report["files"]
        assert sum(file["examples"] for file in files) == report["examples"]
        assert (
            sum(file["dropped"] for file in files) == report["dropped_count"] == sum(report["dropped_reasons"].values())
        )
        if not {"oasst", "squad"} & report["formats"].keys():
            for file in files:
                assert file["records"] == file["examples"] + file["dropped"]
                assert file["records"] == file["unknown"] + sum(file["formats"].values())
        sides = report["train"] + report["validation"] + report["duplicates"] + report["overlap"]
        assert sides == report["examples"]
        first = next((at for at, word in enumerate(arguments) if word.startswith("--")), len(arguments))
        held_out = arguments[-1] if "--validation-data" in arguments else None
        nothing_leaks(read(Options(data=",".join(arguments[:first]), validation_data=held_out), here))
        return tuple(report[name] for name in COUNTS)

    return run


@pytest.fixture
def judge(verdict: Callable[..., Verdict]) -> Callable[..., None]:
    """Asserts that arguments of the data command give these counts, or an error with these words in it."""

    def run(expected: Expected, *arguments: str) -> None:
        found = verdict(*arguments)
        if isinstance(expected, tuple):
            assert found == expected
        else:
            assert isinstance(found, str), found
            assert expected in found

    return run


def nothing_leaks(given: Given) -> None:
    """No prompt on both sides, by key and by its letters; nothing in a text that no one wrote."""
    held_out = given.loaded.validation or given.loaded.train
    asked = given.loaded.train.prompt_keys()[given.split.train]
    measured = held_out.prompt_keys()[given.split.validation]
    assert not np.isin(measured, asked).any()
    assert not prompts(given.train) & prompts(given.validation)
    for example in (*given.train, *given.validation):
        texts = [turn.content for turn in example.messages]
        assert not any("\ufffd" in text for text in texts)
        assert example.messages[-1].role == "assistant"
        assert texts[-1].strip() or example.messages[-1].tool_calls
        assert texts[-1] not in ("nan", "NaN", "None", "null", "NaT", "<NA>")


def prompts(examples: Iterable[Example]) -> set[str]:
    """What is asked in each, its case and space aside."""
    return {" ".join(asked(example.messages)).casefold() for example in examples}


def asked(messages: Sequence[Message]) -> list[str]:
    """The words of the prompt; where there are none, those of the answer."""
    words = [word for turn in messages[:-1] for word in turn.content.split()]
    return words or messages[-1].content.split()
