"""The program's own environment: is CUDA as it should be, and how .venv is made again. The launcher does that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from llm_installer.core.errors import InstallerError
from llm_installer.core.hints import launcher, program, typed
from llm_installer.core.home import model_names, models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.lock import refuse_while_training
from llm_installer.core.text import counted
from llm_installer.install.doctor import Check

RECREATE, SETUP_ONLY = "LLM_INSTALLER_RECREATE", "LLM_INSTALLER_SETUP_ONLY"
"""What the launcher is told."""
IN_USE = "is being trained with this environment, which cannot be changed meanwhile"
_DRIVER = Path("/proc/driver/nvidia/version")
_PROBE = """
import json
found = {"torch": "", "built_for": "", "works": False, "bitsandbytes": ""}
try:
    import torch
    found["torch"], found["built_for"] = torch.__version__, torch.version.cuda or ""
    found["works"] = torch.cuda.is_available()
except (ImportError, OSError, RuntimeError, AttributeError):
    found["torch"] = ""
try:
    import bitsandbytes
except (ImportError, OSError, RuntimeError, AttributeError) as error:
    found["bitsandbytes"] = (str(error).splitlines() or [type(error).__name__])[0]
print(json.dumps(found))
"""
"""Run in a process of its own: what was imported once cannot be exchanged."""
_SECONDS = 300


@dataclass(frozen=True)
class Cuda:
    """What is there of CUDA."""

    gpus: tuple[str, ...]
    driver: bool
    """Whether a driver of NVIDIA is loaded, or its tool says so."""
    torch: str
    """Version; empty where it cannot be imported."""
    built_for: str
    """Version of CUDA; empty for a build for CPUs."""
    works: bool
    """Whether torch can use a GPU."""
    bitsandbytes: str = ""
    """What is wrong with it, if anything."""


@dataclass(frozen=True)
class Cure:
    """What is wrong, and the packages to install again for it; none where that would not help."""

    found: Check
    packages: tuple[str, ...] = ()


def cure(cuda: Cuda) -> Cure:
    """What to do about CUDA. Pure."""
    if not cuda.gpus and not cuda.driver:
        return Cure(Check("CUDA", None, "this machine has no NVIDIA GPU, so there is nothing to mend"))
    if not cuda.gpus:
        what = "a driver of NVIDIA is here, but nvidia-smi shows no GPU"
        return Cure(Check("CUDA", False, what, "load or install the driver again, then start the machine again"))
    seen = f"{counted(len(cuda.gpus), 'GPU')} ({cuda.gpus[0]})"
    if not cuda.torch or not cuda.built_for:
        what = "a build for CPUs" if cuda.torch else "not usable"
        return Cure(Check("CUDA", False, f"{seen}, but torch is {what}"), ("torch", "bitsandbytes"))
    if not cuda.works:
        what = f"{seen}, but torch {cuda.torch} for CUDA {cuda.built_for} cannot use it"
        return Cure(Check("CUDA", False, what, f"install a driver of NVIDIA that knows CUDA {cuda.built_for}"))
    if cuda.bitsandbytes:
        return Cure(Check("CUDA", False, f"bitsandbytes cannot be used ({cuda.bitsandbytes})"), ("bitsandbytes",))
    return Cure(Check("CUDA", True, f"torch {cuda.torch} uses {seen}; there is nothing to mend"))


def probe_cuda(python: str = sys.executable) -> Cuda:
    """Look at the machine, and at the libraries in a process of their own."""
    gpus, driver = _gpus(), _DRIVER.exists()
    if not gpus and not driver:
        return Cuda((), False, "", "", False)
    done = subprocess.run(
        [python, "-c", _PROBE], capture_output=True, text=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return Cuda(gpus, driver, "", "", False)
    return Cuda(gpus, driver, found["torch"], found["built_for"], found["works"], found["bitsandbytes"])


def _gpus() -> tuple[str, ...]:
    tool = shutil.which("nvidia-smi")
    if not tool:
        return ()
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(filter(None, map(str.strip, done.stdout.splitlines()))) if done.returncode == 0 else ()


def fix_cuda(say: Callable[[str], None]) -> Check:
    """Install again what keeps torch from the GPUs of this machine. Returns how it is afterwards.

    Raises TrainingError while a model is being trained, InstallerError where the packages cannot be installed.
    """
    found = cure(probe_cuda())
    if not found.packages:
        return found.found
    say(f"{found.found.detail}; installing again: {', '.join(found.packages)}")
    refuse_any_training()
    for command in commands(found.packages, launcher_of_this(), sys.executable):
        say(f"  {' '.join(map(str, command))}")
        code = subprocess.run(command, env={**os.environ, SETUP_ONLY: "1"}, check=False).returncode
        if code:
            raise InstallerError(f"That ended with exit code {code}; what it printed above says why")
    after = cure(probe_cuda())
    return Check("CUDA", False, after.found.detail, f"see {program()} doctor") if after.packages else after.found


def commands(packages: Sequence[str], by: Path | None, python: str) -> list[list[str]]:
    """What to run to install packages again. The launcher chooses the build of torch, and brings what is missing."""
    pip = [python, "-m", "pip"]
    if by is None:
        return [[*pip, "install", "--force-reinstall", "--no-deps", *packages], [*pip, "install", *packages]]
    return [[*pip, "uninstall", "--yes", *packages], ["rm", "-f", str(by.parent / ".venv" / "installed")], [str(by)]]


def launcher_of_this() -> Path | None:
    """The launcher whose .venv runs this; None for a program that was installed in another way."""
    found = launcher()
    own = found is not None and Path(sys.prefix).resolve() == (found.parent / ".venv").resolve()
    return found if own else None


def recreate_venv() -> NoReturn:
    """Let the launcher make .venv again, which takes the place of this process.

    Raises TrainingError while a model is being trained, InstallerError where no launcher made the environment.
    """
    found = launcher_of_this()
    if found is None:
        raise InstallerError(
            f"This program was not set up by its launcher but runs in {typed(Path(sys.prefix))}; install it again "
            "there as it was installed, for example with pip install --force-reinstall"
        )
    refuse_any_training()
    os.execve(found, [str(found)], {**os.environ, RECREATE: "1", SETUP_ONLY: "1"})


def refuse_any_training() -> None:
    """Raise TrainingError while an installed model is being trained."""
    for name in model_names():
        refuse_while_training(ModelDir(models_dir() / name), IN_USE)
