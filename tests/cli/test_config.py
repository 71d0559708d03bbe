"""What holds for all models: where each value comes from, that it is used, and that a token is not shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.cli.main import cli
from llm_installer.cli.train import _continues
from llm_installer.core.errors import UsageError
from llm_installer.core.home import llm_home
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.record import RUNNING
from llm_installer.core.user_config import offer_token, read_user_config, user_config_file
from llm_installer.planning.options import Options
from llm_installer.planning.preferences import PREFERENCES, Found, check_known, find, preference
from tests.commands import command
from tests.made_runs import make_run

TOKEN = "hf_abcdefghijklmnopqrstuvwx"


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "LLM_MODE", "LLM_TENSORBOARD_PORT"):
        monkeypatch.setenv(name, "")  # so that the old value comes back
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def said(*words: str, input: str | None = None) -> str:
    done = CliRunner().invoke(cli, ["config", *words], input=input)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def refused(*words: str) -> str:
    done = CliRunner().invoke(cli, ["config", *words])
    assert done.exit_code and "\n" not in str(done.exception)
    return str(done.exception)


def origins() -> dict[str, list[str]]:
    """The words of each line of the table, by its first."""
    lines = [line.split() for line in said().splitlines()[1:-3]]
    return {words[0]: words[1:] for words in lines}


def test_each_value_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    assert origins()["mode"][:2] == ["medium", "default"]
    assert "LLM_HOME" in origins()["home"]
    said("set", "mode", "fast")
    assert origins()["mode"][:2] == ["fast", "config.json"]
    assert "config.json is ./settings/llm-installer/config.json" in said()
    monkeypatch.setenv("LLM_MODE", "slow")
    assert origins()["mode"][:2] == ["slow", "LLM_MODE"]
    assert "LLM_MODE in the environment still says slow, and wins" in said("set", "mode", "adaptive")
    monkeypatch.delenv("LLM_MODE")
    assert said("unset", "mode") == "mode is no longer set\n" and said("unset", "mode") == "mode was not set\n"
    assert origins()["mode"][0] == "medium"


@pytest.mark.parametrize("how", ["argument", "input"])
def test_a_token_is_used_kept_for_its_owner_and_shown_by_its_ends_only(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    shown = said("set", "hub-token", TOKEN) if how == "argument" else said("set", "hub-token", input=f"{TOKEN}\n")
    assert "hf_a...uvwx" in shown and "hf_a...uvwx" in said()
    assert TOKEN not in shown + said() + said("set", "mode", "slow")
    assert user_config_file().stat().st_mode & 0o077 == 0
    offer_token()
    assert os.environ["HF_TOKEN"] == TOKEN
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    offer_token()
    assert os.environ["HF_TOKEN"] == "hf_another" and "(hidden)" in said() and "hf_another" not in said()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("set", "mode", "fastt"), "mode='fastt': 'fastt' is not one of"),
        (("set", "tensorboard-port", "0"), "tensorboard-port='0'"),
        (("set", "port", "abc"), "tensorboard-port='abc'"),
        (("set", "home", "models"), "a folder with its whole path is needed"),
        (("set", "home", "  "), "config unset home"),
        (("set", "home", "/dev/null"), "/dev/null is not a folder"),
        (("set", "home", "/dev/null/models"), "/dev/null is not a folder"),
        (("set", "home", "~nobody-of-this-name/LLM"), "a folder with its whole path is needed"),
        (("set", "mode"), "Say what mode shall be"),
        (("set",), "Say which setting"),
        (("unset",), "there are home, mode"),
        (("set", "hub-token", "my secret token"), "this is no token"),
        (("set", "homme", "/x"), "did you mean 'home'?"),
        (("unset", "xyz"), "there are home, mode, hub-token, tensorboard-port"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], says: str) -> None:
    found = refused(*words)
    assert says in found and "secret" not in found and not user_config_file().exists()


def test_models_are_kept_where_home_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert llm_home() == tmp_path / "LLM"
    assert "stay where they are" in said("set", "LLM_HOME", "~/large disk/")
    assert llm_home() == tmp_path / "large disk"
    monkeypatch.setenv("LLM_HOME", str(tmp_path / "x"))
    assert llm_home() == tmp_path / "x"


DAMAGED = [
    ("", "is not valid JSON"), ("[]", "is not a JSON object"), ("\x00\xff", "is not valid JSON"),
    ('{"mode": null}', "must be a text"), ('{"mode": ["fast"]}', "must be a text"), ('{"mode": ""}', "must be a text"),
    ('{"hub-token": {"a": "hf_secret"}}', "must be a text, not that"), ('{"mode": true}', "must be a text"),
    ('{"mode": "quik"}', "'quik' is not one of"), ('{"colour": "red"}', "there is no setting 'colour'"),
    ('{"tensorboard-port": 1e9}', "must be a text"), ("[" * 100_000, "is not valid JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "says"), DAMAGED)
def test_a_damaged_file_is_one_sentence(content: str, says: str) -> None:
    user_config_file().parent.mkdir(parents=True)
    user_config_file().write_bytes(content.encode("latin-1"))
    found = refused()
    assert says in found and "config.json" in found and "hf_secret" not in found


def test_a_wrong_name_in_the_file_can_be_taken_out() -> None:
    user_config_file().parent.mkdir(parents=True)
    user_config_file().write_text(json.dumps({"colour": "red", "mode": "fast"}))
    assert said("unset", "colour") == "colour is no longer set\n"
    assert read_user_config() == {"mode": "fast"}


@given(st.sampled_from(PREFERENCES), st.text(max_size=12))
def test_any_value_is_kept_as_it_is_read_or_refused(one: object, value: str) -> None:
    found = preference(getattr(one, "name"))  # noqa: B009
    try:
        kept = found.check(value)
    except UsageError:
        return
    assert found.check(kept) == kept
    if kept:
        assert find(found, {}, {found.name: kept}).value == kept
        check_known({found.name: kept})
    shown = Found(found, kept, "file").shown
    assert not found.secret or kept == "" or kept not in shown


def test_a_training_takes_what_is_set_unless_a_flag_says_otherwise(
    installed: Path, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said("set", "mode", "fast")
    words = ("train", "tiny-llama", "--data", write_rows(8), "--dry-run")
    chosen, flagged = command(*words), command(*words, "--mode", "medium")
    assert "Mode fast is what config.json says; " in chosen.stdout and "--mode NAME" in chosen.stdout
    assert "twice the learning rate, one epoch" in chosen.stdout
    assert "Mode" not in flagged.stdout and "twice the learning rate, one epoch" not in flagged.stdout
    monkeypatch.setenv("LLM_MODE", "quik")
    wrong = command(*words)
    assert wrong.returncode == 2 and "LLM_MODE: mode='quik'" in wrong.stderr


def test_a_run_that_is_resumed_keeps_its_mode(installed: Path) -> None:
    asked = Options(model_path=str(installed), resume=True)
    make_run(ModelDir(installed), "20261120-090000-fast", rate=1e-3)
    assert not _continues(asked), "one that begins takes what is set"
    make_run(ModelDir(installed), "20261121-090000-fast", rate=1e-3, status=RUNNING)
    assert _continues(asked) and not _continues(Options(model_path=str(installed)))
