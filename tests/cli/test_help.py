"""Help: what matters first, every option in its group, topics, and commands."""

from __future__ import annotations

import io
import itertools
import re

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console as RichConsole

from llm_installer.cli.main import cli
from llm_installer.cli.options import FIRST, find_group, groups, slug
from llm_installer.cli.topics import TOPICS, text
from llm_installer.core.errors import UsageError
from llm_installer.planning.options import Options
from llm_installer.planning.settings import described, flag
from llm_installer.ui.console import Console
from llm_installer.ui.topics import Topic


def said(*words: str) -> str:
    done = CliRunner().invoke(cli, words, terminal_width=80)
    assert done.exit_code == 0, done.output
    return done.stdout


def failed(*words: str) -> Result:
    done = CliRunner().invoke(cli, words)
    assert done.exit_code
    return done


def commands(group: click.Group = cli, *before: str) -> list[tuple[str, ...]]:
    """Every command, with the words that lead to it."""
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        found += [(*before, name), *(commands(command, *before, name) if isinstance(command, click.Group) else ())]
    return found


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_option_is_broken_in_a_help(width: int) -> None:
    for words in [*commands(), ("train", "--help-all")]:
        asked = words if words[-1] == "--help-all" else (*words, "--help")
        broad, narrow = (CliRunner().invoke(cli, asked, terminal_width=wide).stdout for wide in (1000, width))
        named = [{word for word in shown.split() if word.startswith("-")} for shown in (narrow, broad)]
        assert named[0] == named[1], words


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_filled_up_in_a_narrow_terminal(topic: str) -> None:
    """No line ends early where the next one goes on in the same column, and no word is broken."""
    width, file = 60, io.StringIO()
    Console(rich=RichConsole(file=file, width=width, force_terminal=True, no_color=True)).show(Topic(text(topic)))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).split("\n")
    assert max(map(len, lines)) <= width
    for line, following in itertools.pairwise(lines):
        column = len(following) - len(following.lstrip())
        if column > 8 and line[column - 1 : column] == " " and not line[:column].rstrip().endswith("}"):
            assert len(line.rstrip()) + 1 + len(following.split()[0]) > width, (line, following)
    shown = {word for word in file.getvalue().split() if word.startswith("--")}
    assert shown <= set(re.sub(r"[`*]", "", text(topic)).split())


def flags(text: str) -> set[str]:
    """Options that a help explains, which is where a line begins with them."""
    lines = [line.split()[0].rstrip(",") for line in text.splitlines() if line.strip().startswith("--")]
    return {word for word in lines if not word.startswith("--help")}


@pytest.mark.parametrize("before", [(), ("--model-path", "tiny")], ids=["train", "train.sh"])
def test_the_first_help_fits_on_a_screen_and_leads_to_the_rest(before: tuple[str, ...]) -> None:
    shown = said("train", *before, "--help")
    assert len(shown.splitlines()) <= 60
    assert max(map(len, shown.splitlines())) <= 80
    assert flags(shown) == {flag(name) for name in FIRST}
    for group in groups():
        assert f"--help {slug(group)} " in shown, group
    assert "--help-all" in shown
    assert shown == said("train", *before, "-h")


def test_all_options_are_in_the_long_help_below_the_name_of_their_group() -> None:
    shown = said("train", "--help-all")
    assert flags(shown) == {flag(one.name) for one in described(Options)}
    places = [shown.index(f"\n{group}:\n") for group in groups()]
    assert places == sorted(places)


@pytest.mark.parametrize("group", groups())
def test_the_help_of_a_group_explains_its_options_and_no_others(group: str) -> None:
    shown = said("train", "--help", slug(group))
    assert flags(shown) == {flag(one.name) for one in described(Options) if one.setting.group == group}
    assert f"\n{group}:\n" in shown


@pytest.mark.parametrize(
    ("word", "group"),
    [
        ("data", "Data"),
        ("several-gpus", "Several GPUs"),
        ("GPUS", "Several GPUs"),
        ("run", "Run control"),
        ("mon", "Monitoring"),
    ],
)
def test_a_group_is_found_by_any_beginning(word: str, group: str) -> None:
    assert find_group(word) == group


def test_an_unknown_group_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match=r"no group of options called 'memory'; there are data, training, .*, control"):
        find_group("memory")


def test_no_sentence_of_the_list_of_commands_is_cut() -> None:
    shown = said("--help")
    assert "..." not in shown.partition("Commands:")[2]
    assert max(map(len, shown.splitlines())) <= 80


def test_topics_are_listed_and_each_has_a_text() -> None:
    shown = said("help")
    for topic in TOPICS:
        assert f"  {topic} " in shown
        assert said("help", topic).startswith(text(topic).rstrip())


def test_a_topic_says_how_to_call_the_program_where_its_name_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_INSTALLER_COMMAND", "~/llm/llm-installer")
    assert said("help", "models").endswith("\n\nWhere llm-installer is not on PATH, type: ~/llm/llm-installer\n")


def test_a_word_that_is_topic_and_command_leads_to_both() -> None:
    assert said("help", "data").endswith("The command of this name: llm-installer data --help\n")


@pytest.mark.parametrize("words", [("install",), ("train",), ("adapters", "use"), ("start",)], ids=" ".join)
def test_help_of_a_command_is_that_of_the_command(words: tuple[str, ...]) -> None:
    behind_a_model = [words[0], "[MODEL]", *words[1:]] if words[0] == "adapters" else words
    usage = f"Usage: cli {' '.join(behind_a_model)} "
    assert said("help", *words).startswith(usage) and said(*words, "--help").startswith(usage)
    body = slice(1, None)
    assert said("help", *words).splitlines()[body] == said(*words, "--help").splitlines()[body]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("modez",), "no topic or command 'modez'; did you mean 'modes'?"),
        (("instal",), "did you mean 'install'?"),
        (("adapters", "used"), "did you mean 'use'?"),
        (("install", "tiny"), "no topic or command 'tiny'"),
    ],
)
def test_what_cannot_be_explained_is_said(words: tuple[str, ...], says: str) -> None:
    assert says in str(failed("help", *words).exception)
