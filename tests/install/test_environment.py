"""CUDA and the program's own environment: what is decided from what is there, and who makes .venv again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from llm_installer.core.errors import TrainingError
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.lock import only_training
from llm_installer.install.environment import Cuda, commands, cure, fix_cuda, refuse_any_training

REPO = Path(__file__).resolve().parents[2]
CARD = ("NVIDIA H100",)


@pytest.mark.parametrize(
    ("cuda", "ok", "says", "packages"),
    [
        (Cuda((), False, "2.9", "", False), None, "no NVIDIA GPU, so there is nothing to mend", ()),
        (Cuda((), True, "2.9", "12.8", False), False, "nvidia-smi shows no GPU", ()),
        (Cuda(CARD, True, "2.9+cpu", "", False), False, "torch is a build for CPUs", ("torch", "bitsandbytes")),
        (Cuda(CARD, True, "", "", False), False, "torch is not usable", ("torch", "bitsandbytes")),
        (Cuda(CARD, True, "2.9", "12.8", False), False, "for CUDA 12.8 cannot use it", ()),
        (Cuda(CARD, True, "2.9", "12.8", True, "no library"), False, "bitsandbytes", ("bitsandbytes",)),
        (Cuda(CARD * 2, True, "2.9", "12.8", True), True, "2 GPUs (NVIDIA H100); there is nothing to mend", ()),
    ],
)
def test_what_is_wrong_decides_what_is_installed_again(
    cuda: Cuda, ok: bool | None, says: str, packages: tuple[str, ...]
) -> None:
    found = cure(cuda)
    assert found.found.ok is ok and says in found.found.detail and found.packages == packages
    assert found.found.fix or packages or ok is not False, "whoever reads it knows what to do"


def test_the_launcher_installs_what_it_has_made() -> None:
    removed, marker, launcher = commands(("torch",), Path("/x/llm-installer"), "/x/.venv/bin/python")
    assert removed[:4] == ["/x/.venv/bin/python", "-m", "pip", "uninstall"] and marker[-1] == "/x/.venv/installed"
    assert launcher == ["/x/llm-installer"]
    assert all(line[:3] == ["py", "-m", "pip"] for line in commands(("torch",), None, "py"))


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="this machine has an NVIDIA GPU")
def test_a_machine_without_a_gpu_is_told_so() -> None:
    found = fix_cuda(print)
    assert found.ok is None and "no NVIDIA GPU" in found.detail


def test_an_environment_in_use_stays() -> None:
    model = ModelDir(models_dir() / "small")
    model.root.mkdir(parents=True)
    model.info.write_text("{}")
    refuse_any_training()
    with only_training(model), pytest.raises(TrainingError, match="is being trained with this environment"):
        refuse_any_training()


def test_the_launcher_takes_over_to_make_the_environment_again(tmp_path: Path) -> None:
    """A checkout of its own, whose .venv finds the libraries here, and whose launcher says what it is told."""
    root = tmp_path / "a check out"
    ignore = shutil.ignore_patterns("__pycache__", "tiny")
    shutil.copytree(REPO / "llm_installer", root / "llm_installer", ignore=ignore)
    venv.create(root / ".venv", with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(root / ".venv")}))
    (packages / "here.pth").write_text(f"{root}\n{sysconfig.get_path('purelib')}\n")
    (root / "llm_installer" / "install" / "tiny").mkdir()
    (root / "llm_installer" / "install" / "tiny" / "__init__.py").write_text(
        (REPO / "llm_installer" / "install" / "tiny" / "__init__.py").read_text()
    )
    launcher = root / "llm-installer"
    launcher.write_text('#!/bin/sh\necho "$# $LLM_INSTALLER_RECREATE $LLM_INSTALLER_SETUP_ONLY"\nexit 7\n')
    launcher.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    started = [root / ".venv" / "bin" / "python", "-m", "llm_installer", "fix", "--recreate-venv"]
    done = subprocess.run(started, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "0 1 1\n", "")
    (root / ".venv").rename(root / "another")
    started[0] = root / "another" / "bin" / "python"
    other = subprocess.run(started, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert other.returncode == 1 and "was not set up by its launcher" in other.stderr
