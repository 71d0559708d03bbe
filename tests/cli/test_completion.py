"""The Tab key: commands, options, models, runs and paths, through click and through a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete, get_completion_class
from click.testing import CliRunner

from llm_installer.cli.completion import SHELLS, VARIABLE
from llm_installer.cli.main import cli
from llm_installer.core.paths import ModelDir
from tests.made_runs import make_run

RUN = "20261120-090000-fast"


@pytest.fixture
def model(installed: Path) -> ModelDir:
    found = ModelDir(installed)
    make_run(found, RUN, rate=1e-3)
    return found


def offered(*words: str) -> list[str]:
    """What Tab offers behind these words, of which the last is half typed."""
    found = ShellComplete(cli, {}, "llm-installer", VARIABLE).get_completions(list(words[:-1]), words[-1])
    return [item.type if item.type != "plain" else item.value for item in found]


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (("qui",), ["quickstart"]),
        (("remove", "ti"), ["tiny-llama"]),
        (("start", ""), ["tiny-llama"]),
        (("run", "t"), ["tiny-llama"]),
        (("train", "t"), ["tiny-llama"]),
        (("train", "tiny-llama", "--mode", "f"), ["fast"]),
        (("train", "--data", ""), ["file"]),
        (("train", "--output", ""), ["dir"]),
        (("start", "tiny-llama", "--run", "2026"), [RUN]),
        (("start", "--model-path", "tiny-llama", "--run", "l"), ["last"]),
        (("adapters", "tiny-llama", "us"), ["use"]),
        (("adapters", "tiny-llama", "use", ""), [RUN, "last"]),
        (("adapters", "tiny-llama", "compare", RUN, "la"), ["last"]),
        (("config", "set", "m"), ["mode"]),
        (("config", "set", "mode", "f"), ["fast"]),
        (("config", "set", "home", ""), ["dir"]),
        (("config", "set", "xyz", ""), []),
        (("completion", "z"), ["zsh"]),
        (("help", "mod"), ["models", "modes"]),
        (("help", "tr"), ["train"]),
        (("help", "adapters", "u"), ["use"]),
        (("help", "modes", ""), []),
        (("train", "tiny-llama", "--gradient-checkpointing", "--mode", "f"), ["fast"]),
        (("remove", "nothing"), []),
        (("start", "nothing", "--run", ""), []),
    ],
)
def test_tab_offers_what_can_stand_there(model: ModelDir, words: tuple[str, ...], offers: list[str]) -> None:
    assert offered(*words) == offers


def test_models_come_before_the_commands_of_adapters(model: ModelDir) -> None:
    assert offered("adapters", "") == ["tiny-llama", "compare", "use", "remove"]


@pytest.mark.parametrize("shell", SHELLS)
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0 and f"{VARIABLE}={shell}_complete" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)


def test_the_shell_that_is_used_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "fish_complete" in CliRunner().invoke(cli, ["completion"]).stdout
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert "there are also zsh and fish" in str(CliRunner().invoke(cli, ["completion"]).exception)


@pytest.mark.parametrize(
    ("shell", "words", "offers"),
    [
        ("bash", ["train", "tiny-llama", "--mode", "=", "f"], "plain,fast"),
        ("bash", ["start", "--model-path", "=", "tiny-llama", "--run", "=", "2026"], f"plain,{RUN}"),
        ("bash", ["train", "--mode", "="], "plain,slow"),
        ("zsh", ["train", "tiny-llama", "--mode=f"], "plain\n--mode=fast\n_"),
        ("fish", ["train", "tiny-llama", "--mode=f"], "plain,--mode=fast"),
        ("fish", ["start", "--model-path=tiny-llama", "--run=2026"], f"plain,--run={RUN}"),
    ],
)
def test_a_value_behind_an_equals_sign_is_completed(
    model: ModelDir, shell: str, words: list[str], offers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_WORDS", "\n".join(["llm-installer", *words]))
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words)))
    found = get_completion_class(shell)
    assert found and found(cli, {}, "llm-installer", VARIABLE).complete().startswith(offers)


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not here")
@pytest.mark.parametrize("called", ["llm-installer", "./llm-installer"])
def test_bash_offers_the_models(model: ModelDir, tmp_path: Path, called: str) -> None:
    program = tmp_path / "llm-installer"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llm_installer "$@"\n')
    program.chmod(0o755)
    ask = (
        f'eval "$(llm-installer completion bash)"; COMP_WORDS=({called} start ti); COMP_CWORD=2; '
        f'_llm_installer_completion {called}; echo "${{COMPREPLY[@]}}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert (done.stdout, done.stderr) == ("tiny-llama\n", "")
