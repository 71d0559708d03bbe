"""What an option takes, and the words in which it refuses the rest."""

from __future__ import annotations

import math

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.cli.main import cli
from llm_installer.core.errors import UsageError
from llm_installer.planning.bounds import MOST, Filled, Number, Whole
from llm_installer.planning.options import Options
from llm_installer.planning.settings import described, flag

JARGON = ("range", "INTEGER", "FLOAT", "<=", "float", "integer")
TEXTS = [one.name for one in described(Options) if one.kind is str and not one.setting.choices]


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (Whole(1), "abc", "'abc' is not a whole number"),
        (Whole(1), "1.5", "'1.5' is not a whole number"),
        (Whole(1), 1.5, "1.5 is not a whole number"),
        (Whole(1), "0", "0 is too small; give at least 1"),
        (Whole(1), "2000000000", "2000000000 is too large; give 1 to 1000000000"),
        (Whole(1, 65535), "0", "0 is too small; give 1 to 65535"),
        (Number(0.001, 1e6), "0", "0 is too small; give 0.001 to 1000000"),
        (Number(0, 1, low_open=True), "0", "0 is too small; give more than 0 and at most 1"),
        (Number(0, 1, low_open=True), "1.5", "1.5 is too large; give more than 0 and at most 1"),
        (Number(0), "-0.5", "-0.5 is too small; give at least 0"),
        (Number(0), "x", "'x' is not a number"),
        (Number(0), "nan", "nan is not a number"),
        (Number(0), "-inf", "-inf is infinite"),
        (Filled(), " ", "it is empty; give a value, or leave the option out"),
    ],
)
def test_a_refusal_is_in_plain_words(kind: click.ParamType[object], value: object, says: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        kind.convert(value, None, None)
    assert refused.value.message == says


@given(st.text() | st.integers().map(str) | st.floats().map(repr))
def test_a_number_is_within_its_bounds_or_refused(text: str) -> None:
    for kind in (Whole(2, 7), Number(0.5, 7, low_open=True), Whole(0), Number(0)):
        try:
            found = kind.convert(text, None, None)
        except click.BadParameter as error:
            assert not any(word in error.message.replace(text, "").replace(repr(text), "") for word in JARGON)
        else:
            low, high = (2 if kind.max == 7 else 0), (7 if kind.max == 7 else MOST)
            assert math.isfinite(found) and (low if isinstance(kind, Whole) else 0) <= found <= high


@pytest.mark.parametrize("name", TEXTS)
def test_an_empty_text_is_not_taken_as_none(name: str) -> None:
    done = CliRunner().invoke(cli, ["train", flag(name), ""])
    assert done.exit_code == 2 and f"'{flag(name)}': it is empty" in done.output
    with pytest.raises(UsageError, match=f"{name}='': it is empty"):
        Options.from_kwargs(**{name: ""})


def test_other_commands_take_no_empty_text_either() -> None:
    for words in (
        ["data", ""],
        ["check", ""],
        ["adapters", "--model", "", "use", "last"],
        ["start", "--model-path", ""],
    ):
        assert "it is empty" in CliRunner().invoke(cli, words).output, words


def test_a_help_speaks_plainly() -> None:
    for name in ("start", "data", "train"):
        shown = CliRunner().invoke(cli, [name, "--help"]).output
        assert not any(word in shown for word in ("RANGE", "INTEGER", "<=x")), name
    assert "--data" not in CliRunner().invoke(cli, ["data", "--help"]).output.replace("--dataset", "")
