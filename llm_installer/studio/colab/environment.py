"""A Python environment over that of a notebook: what it needs and the notebook has not, and PyTorch never again.

The libraries of a notebook may be older and in use, so nothing of it is replaced. Standard library only.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

from llm_installer.studio.colab.child import run

_TORCH = "torch"


def python_of(place: Path) -> Path:
    """The Python of the environment in `place`."""
    return place / "venv" / "bin" / "python"


def installed_version(place: Path) -> str:
    """The version of the program in the environment, by the code that is there; empty where it has none."""
    if not python_of(place).exists():
        return ""
    ask = "from llm_installer.studio.colab.wheel import code_version; print(code_version())"
    done = subprocess.run([python_of(place), "-I", "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip() if not done.returncode else ""


def make_environment(place: Path, wheel: Path) -> None:
    """Make it from nothing, with the wheel and what that needs. Raises StepFailed where that cannot be installed."""
    shutil.rmtree(place / "venv", ignore_errors=True)
    # Without pip, which some systems cannot put there; the one of the notebook does the work.
    venv.EnvBuilder(system_site_packages=True, symlinks=True, with_pip=False).create(place / "venv")
    library = next((place / "venv" / "lib").glob("python*/site-packages"))
    # Where the Python of the notebook is itself in an environment, or puts its packages in a place of its own.
    seen = [each for each in (*site.getsitepackages(), site.getusersitepackages()) if Path(each).is_dir()]
    (library / "notebook.pth").write_text("".join(f"{each}\n" for each in seen), encoding="utf-8")
    run(install_command(place, wheel, torch_version(), shutil.which("uv")))


def install_command(place: Path, wheel: Path, torch: str, uv: str | None) -> list[str]:
    """How to install the wheel where the notebook has this version of PyTorch, or none. Writes a file to `place`."""
    rules, python = place / "torch.txt", str(python_of(place))
    if uv:
        # uv does not look at the packages of the notebook: it is told that nobody needs this one.
        rules.write_text(f"{_TORCH}; python_version < '0'\n" if torch else "", encoding="utf-8")
        return [uv, "pip", "install", "--python", python, "--override", str(rules), str(wheel)]
    rules.write_text(f"{_TORCH}=={torch}\n" if torch else "", encoding="utf-8")
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar", "off"]
    return [sys.executable, "-m", "pip", "--python", python, "install", *quiet, "-c", str(rules), str(wheel)]


def torch_version() -> str:
    """Of the PyTorch that the notebook has; empty where there is none."""
    try:
        return importlib.metadata.version(_TORCH)
    except importlib.metadata.PackageNotFoundError:
        return ""


def write(file: Path, data: bytes) -> None:
    """Replace a file by one rename."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_bytes(data)
    os.replace(temporary, file)
