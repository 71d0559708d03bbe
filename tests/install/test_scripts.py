"""The scripts in a model directory, run by a real sh against a stub Python that tells how it was called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.install import install
from llm_installer.install.scripts import templates_dir, write_scripts

STUB = f"""#!{sys.executable}
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("PYTHONSAFEPATH"), os.getcwd()]))
sys.exit(7)
"""
SHELLS = [shell for shell in ("sh", "bash", "dash", "busybox") if shutil.which(shell)]
AWKWARD = ["--data", "my data.json", "", "*", "$HOME", "a'b\"c", "--", "-n", "\\n", "\u00e4", "two\nlines"]


@dataclass(frozen=True)
class Called:
    code: int
    arguments: list[str]
    safe_path: str
    folder: str


def call(*command: str | Path, python: Path | None = None, cwd: Path | None = None) -> Called:
    """Run a script to its end with the stub as its Python."""
    env = {**os.environ, **({"LLM_PYTHON": str(python)} if python else {})}
    done = subprocess.run([str(c) for c in command], env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    arguments, safe_path, folder = json.loads(done.stdout)
    return Called(done.returncode, arguments, safe_path, folder)


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    file = tmp_path / "a stub" / "python'3"
    file.parent.mkdir()
    file.write_text(STUB)
    file.chmod(0o755)
    return file


@pytest.fixture
def found(home: Path, make_model: Callable[..., Path]) -> ModelDir:
    """A model whose directory has a space, a quote and a dollar in its name."""
    return install(str(make_model()), name="it's a $model", say=lambda _: None)


@pytest.mark.parametrize(("file", "command"), [("train.sh", "train"), ("start.sh", "start")])
def test_arguments_and_exit_code_pass_untouched(file: str, command: str, found: ModelDir, stub: Path) -> None:
    called = call(found.root / file, *AWKWARD, python=stub)
    assert called.arguments == ["-m", "llm_installer", command, "--model-path", str(found.root.resolve()), *AWKWARD]
    assert (called.code, called.safe_path) == (7, "1")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_agrees(shell: str, found: ModelDir, stub: Path) -> None:
    words = [shell, "sh"] if shell == "busybox" else [shell]
    called = call(*words, found.root / "train.sh", *AWKWARD, python=stub)
    assert (called.code, called.safe_path) == (7, "1")
    assert called.arguments[3:] == ["--model-path", str(found.root.resolve()), *AWKWARD]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("file", ["train.sh", "start.sh"])
def test_the_syntax_is_valid(shell: str, file: str, found: ModelDir) -> None:
    words = [shell, "sh"] if shell == "busybox" else [shell]
    subprocess.run([*words, "-n", str(found.root / file)], check=True)


def test_the_callers_folder_stays(found: ModelDir, stub: Path, tmp_path: Path) -> None:
    assert call(found.root / "train.sh", python=stub, cwd=tmp_path).folder == str(tmp_path)
    assert call("./train.sh", python=stub, cwd=found.root).arguments[4] == str(found.root.resolve())
    assert call("sh", "train.sh", python=stub, cwd=found.root).arguments[4] == str(found.root.resolve())


def test_a_cdpath_changes_nothing(found: ModelDir, stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDPATH", str(found.root.parent))
    relative = f"{found.root.name}/train.sh"
    assert call("sh", relative, python=stub, cwd=found.root.parent).arguments[4] == str(found.root.resolve())


@pytest.mark.parametrize("target", ["absolute", "relative", "chain"])
def test_a_link_to_a_script_finds_its_model(target: str, found: ModelDir, stub: Path, tmp_path: Path) -> None:
    link = tmp_path / "my bin" / "train me"
    link.parent.mkdir()
    script = found.root / "train.sh"
    if target == "chain":
        (tmp_path / "middle").symlink_to(script)
        link.symlink_to("../middle")
    else:
        link.symlink_to(script if target == "absolute" else os.path.relpath(script, link.parent))
    assert call(link, "x", python=stub, cwd=link.parent).arguments[4:] == [str(found.root.resolve()), "x"]


def test_the_python_of_the_install_is_recorded_and_update_writes_it_again(found: ModelDir, stub: Path) -> None:
    write_scripts(found, python=str(stub))
    assert call(found.root / "train.sh", "x").arguments[-1] == "x"
    write_scripts(found)
    assert sys.executable in (found.root / "train.sh").read_text()


@pytest.mark.parametrize("python", ["/nowhere/python 3", "/etc/passwd"])
def test_a_python_that_is_gone_is_one_sentence(python: str, found: ModelDir) -> None:
    write_scripts(found, python=python)
    done = subprocess.run([found.root / "start.sh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"The Python that this model was installed with ({python}) is missing; "
        f'run: llm-installer update "{found.root.resolve()}"\n'
    )


def test_a_moved_directory_still_works(found: ModelDir, stub: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    found.root.rename(moved)
    (moved / "runs" / "one").mkdir()
    assert call(moved / "train.sh", python=stub).arguments[4] == str(moved)
    assert os.listdir(moved / "logs" / "training") == ["one"]


def test_links_survive_a_home_behind_a_link(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("LLM_HOME", str(tmp_path / "link"))
    found = install(str(make_model()), say=lambda _: None)
    assert os.readlink(found.tensorboard_link) == "../runs"


def test_train_lora_py_is_five_lines_that_call_train(found: ModelDir, tmp_path: Path) -> None:
    package = tmp_path / "fake" / "llm_installer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(7)\n")
    command = [sys.executable, str(found.root / "train_lora.py"), *AWKWARD]
    env = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=env)
    assert json.loads(done.stdout) == ["train", "--model-path", str(found.root.resolve()), *AWKWARD]
    assert (done.returncode, done.stderr) == (7, "")


def test_templates_are_rendered_completely(found: ModelDir) -> None:
    assert (templates_dir() / "launch.sh").is_file()
    for name in ("train.sh", "start.sh", "train_lora.py"):
        assert "@" not in (found.root / name).read_text().replace('"$@"', "")
    assert os.access(found.root / "train.sh", os.X_OK) and os.access(found.root / "start.sh", os.X_OK)
