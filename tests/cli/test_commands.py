"""What people type: models by name, words that are no commands, `run`, and what is asked before a deletion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.cli.commands import Commands
from llm_installer.cli.main import cli
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.lock import only_training
from llm_installer.core.run.record import RUNNING
from llm_installer.install import install
from llm_installer.runs.listing import use
from tests.commands import command
from tests.made_runs import make_run

FAST, LAST = "20261120-090000-fast", "20261121-110000-medium"


def typed(*words: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, words, input=input)


def refused(*words: str) -> str:
    """The one sentence that a command ends with."""
    done = typed(*words)
    assert done.exit_code and done.exception and "\n" not in str(done.exception), done.output
    return str(done.exception)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model(installed: Path, elsewhere: Path) -> ModelDir:
    """The random Llama, installed as tiny-llama; one is somewhere else."""
    return ModelDir(installed)


def test_outside_of_a_model_the_way_to_name_one_is_said(elsewhere: Path, tiny_llama: Path) -> None:
    for words in (("start",), ("train",), ("train", "--data", "x.json"), ("train", "--status"), ("adapters",)):
        assert refused(*words).endswith("none is installed yet, so begin with: llm-installer install tiny")
    install(str(tiny_llama), say=lambda text: None)
    end = "(or run this inside a model directory)"
    assert refused("start") == f"Say which model to talk to, for example: llm-installer start tiny-llama {end}"
    assert refused("train") == (
        f"Say which model to train, for example: llm-installer train tiny-llama --data my.json {end}"
    )
    assert refused("adapters") == f"Say whose runs, for example: llm-installer adapters tiny-llama {end}"


@pytest.mark.parametrize("words", [("tiny-llama",), ("--model-path", "tiny-llama"), ()], ids=["name", "option", "here"])
def test_a_model_is_trained_and_asked_by_name_by_path_and_where_one_is(
    model: ModelDir, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    data = str(write_rows(8))
    if not words:
        monkeypatch.chdir(model.root)
    assert "Say what to train on, for example: " in refused("train", *words)
    if words == ("tiny-llama",):
        assert "mode " in command("train", *words, "--data", data, "--dry-run").stdout
    answered = typed("start", *words, "--prompt", "Hello", "--max-new-tokens", "1")
    assert answered.exit_code == 0 and "tiny-llama: base model" in answered.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("start", "tiny-lama"), "did you mean 'tiny-llama'?"),
        (("start", "nothing"), "see the installed models with: llm-installer list"),
        (("train", "my.json"), "is a file and not a model; train on it with --data my.json, and on several"),
        (("train", "--model-path", "tiny-llama", "--data", "a.json", "my.json"), "with commas between them"),
        (("start", "my.json"), "'my.json' is a file and not a model"),
        (("start", "other", "--model-path", "tiny-llama"), "second model beside 'tiny-llama'; give one of them"),
        (("remove", "tinyllama"), "did you mean 'tiny-llama'?"),
        (("adapters", "tiny-lama"), "did you mean 'tiny-llama'?"),
    ],
)
def test_what_names_no_model_is_said(model: ModelDir, elsewhere: Path, words: tuple[str, ...], says: str) -> None:
    (elsewhere / "my.json").write_text("[]")
    assert says in refused(*words)


def test_both_ways_to_name_one_model_agree(model: ModelDir, elsewhere: Path) -> None:
    assert "Say what to train on" in refused("train", "tiny-llama", "--model-path", str(model.root))


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("status", "train MODEL --status"), ("chat", "start MODEL"), ("finetune", "train MODEL --data FILE"),
        ("fine_tune", "train MODEL --data FILE"), ("compare", "adapters MODEL compare ONE OTHER"),
        ("delete", "remove MODEL"), ("ls", "list"), ("LIST", "list"), ("instal", "install"), ("stop", "train MODEL "
        "--stop-now"), ("login", "config set hub-token"), ("repair", "fix"), ("version", "--version"),
        ("Qwen/Qwen3-0.6B", "install Qwen/Qwen3-0.6B"), ("tiny-llama", "start tiny-llama"), ("my.json", "data my.json"),
    ],
)  # fmt: skip
def test_words_that_people_try_lead_to_a_command(model: ModelDir, elsewhere: Path, word: str, meant: str) -> None:
    (elsewhere / "my.json").write_text("[]")
    assert refused(word) == f"There is no command {word!r}; did you mean: llm-installer {meant}"


def test_in_a_group_they_lead_to_its_commands(model: ModelDir) -> None:
    assert refused("adapters", "tiny-llama", "delete", "last").endswith("llm-installer adapters MODEL remove RUN")
    assert refused("config", "get", "mode").endswith("did you mean: llm-installer config show")


def test_other_words_lead_to_the_help(elsewhere: Path) -> None:
    assert refused("xyzzy") == "There is no command 'xyzzy'; see those there are with: llm-installer --help"


def groups() -> Iterator[Commands]:
    yield cli
    yield from (command for command in cli.commands.values() if isinstance(command, Commands))


def test_what_is_suggested_for_a_word_exists() -> None:
    for group in groups():
        assert not set(group.tried) & set(group.commands), "a command is no other word for one"
        for meant in set(group.tried.values()):
            first, *rest = [word for word in meant.split() if not word.isupper()] or [""]
            assert first in group.commands or first.startswith("-"), meant
            found: click.Command = group.commands.get(first, group)
            if isinstance(found, click.Group) and rest and rest[0] in found.commands:
                found = found.commands[rest[0]]
            assert {w for w in [first, *rest] if w.startswith("-")} <= {
                *(opt for param in found.params for opt in param.opts)
            }


@given(st.text(max_size=20))
def test_any_other_word_is_one_sentence(word: str) -> None:
    if word not in cli.commands and not word.startswith("-"):
        done = CliRunner().invoke(cli, [word])
        assert done.exit_code and str(done.exception).startswith("There is no command")


def test_run_installs_what_is_missing_and_then_only_talks(elsewhere: Path, tiny_llama: Path) -> None:
    words = ("run", str(tiny_llama), "--prompt", "Hello", "--max-new-tokens", "1")
    first, second = typed(*words), typed(*words)
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    assert "Installed" in first.stderr and "Installed" not in second.stderr
    assert first.stdout == second.stdout, "answers alone go to stdout"
    assert typed("run", "tiny-llama", *words[2:]).stdout == first.stdout


def test_run_does_not_take_one_model_for_another(model: ModelDir, elsewhere: Path, tiny_llama: Path) -> None:
    shutil.copytree(tiny_llama, elsewhere / "tiny-llama")
    assert "is installed already, from" in refused("run", "./tiny-llama")


def test_the_list_as_json_has_the_documented_fields(model: ModelDir) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guides" / "models.md").read_text(encoding="utf-8")
    [found] = json.loads(typed("list", "--json").stdout)
    table = page.partition("| field |")[2].partition("\n\n")[0]
    assert [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")] == list(found)
    assert (found["name"], found["path"], found["source"]) == ("tiny-llama", str(model.root), "folder")
    assert found["adapter"] is None and found["complete"] is True and found["parameters"] > 0


def test_all_models_are_updated_and_one_that_cannot_be_hides_none(model: ModelDir, tiny_llama: Path) -> None:
    install(str(tiny_llama), name="another", say=lambda text: None)
    for name in ("tiny-llama", "another"):
        (models_dir() / name / "train.sh").unlink()
    (models_dir() / "another" / "train.sh").mkdir()  # which no file can replace
    done = typed("update", "--all")
    assert done.exit_code == 1 and "another: " in done.stderr
    assert (model.root / "train.sh").is_file()
    assert "contradict each other" in refused("update", "tiny-llama", "--all")
    assert refused("update").endswith("llm-installer update tiny, or for all: llm-installer update --all")


def test_what_would_be_lost_is_said_before_it_is(model: ModelDir) -> None:
    make_run(model, FAST, rate=1e-3)
    make_run(model, LAST, rate=1e-3, status=RUNNING)
    use(model, FAST)
    asked = typed("remove", "tiny-llama", input="n\n")
    assert f"(2 runs, 1 of them not finished, ./lora is {FAST}, " in asked.output and model.root.is_dir()
    assert "Removed" in typed("remove", "tiny-llama", input="y\n").output and not model.root.exists()


def test_nothing_is_asked_that_would_be_refused(model: ModelDir, tiny_llama: Path) -> None:
    with only_training(model):
        assert "cannot be removed while it is being trained" in refused("remove", "tiny-llama")
    install(str(model.weights), name="linked", link=True, say=lambda text: None)
    assert "because the model linked uses its weights" in refused("remove", "tiny-llama")
    assert "the folder that it links to stays" in typed("remove", "linked", input="y\n").output
    assert "Delete tiny-llama" in typed("remove", "tiny-llama", input="y\n").output


@pytest.mark.parametrize("words", [("remove", "tiny-llama"), ("adapters", "tiny-llama", "remove", LAST)])
def test_where_nobody_answers_the_word_that_is_needed_is_said(model: ModelDir, words: tuple[str, ...]) -> None:
    make_run(model, LAST, rate=1e-3)
    assert refused(*words) == "Nobody is there to answer; to delete without being asked, add --yes"
    assert (model.runs / LAST).is_dir()
