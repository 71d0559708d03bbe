"""Check everything that an install, a training or a chat needs, and say how to fix what is wrong."""

from __future__ import annotations

import importlib
import logging
import platform
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from llm_installer.core.hardware import memory_bytes, probe_hardware
from llm_installer.core.hints import program
from llm_installer.core.home import llm_home, models_dir
from llm_installer.core.paths import allow
from llm_installer.core.text import GIB, counted, short_path, size
from llm_installer.core.user_config import TOKEN, offer_token
from llm_installer.install.disk import nearest_existing, size_on_disk
from llm_installer.install.installed import Installed, list_models
from llm_installer.install.model_record import installed_version

OLDEST_PYTHON = (3, 10)
_REINSTALL = "install the program again, in a new environment"


@dataclass(frozen=True)
class Check:
    """One finding: `ok` is None for a warning. `fix` is empty where there is nothing to do."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Library:
    """A library that is imported; one that only some methods need is a warning when it is missing."""

    name: str
    needed: bool = True


LIBRARIES = (Library("transformers"), Library("peft"), Library("bitsandbytes", needed=False))


def check_machine() -> list[Check]:
    """Check this machine, its libraries and the installed models. Changes nothing and uses no network."""
    return [check() for check in CHECKS] + [_library(library) for library in LIBRARIES] + _models()


def _python() -> Check:
    found, wanted = platform.python_version(), ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Check("Python", True, f"{found} ({sys.executable})")
    return Check("Python", False, f"{found} is too old", f"install Python {wanted} or newer")


def _torch() -> Check:
    found, problem = _import("torch")
    if problem:
        return Check("torch", False, problem, _REINSTALL)
    device = probe_hardware()
    if device.device == "cpu" and shutil.which("nvidia-smi"):
        fix = "install a torch build for its CUDA version, from pytorch.org"
        return Check("torch", None, f"{found}, which cannot use the NVIDIA GPU of this machine", fix)
    return Check("torch", True, f"{found}, {device.summary}")


def _library(library: Library) -> Check:
    found, problem = _import(library.name)
    if not problem:
        return Check(library.name, True, found)
    return Check(library.name, False if library.needed else None, problem, _REINSTALL)


def _import(name: str) -> tuple[str, str]:
    """The version of a library, and what is wrong with it: missing, broken, or a version that is too old or too new."""
    try:
        with _quiet():
            importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return "", f"cannot be imported ({first})"
    found, wanted = installed_version(name), constraint(name)
    return found, "" if _satisfies(found, wanted) else f"{found} is installed, and {wanted} is needed"


@contextmanager
def _quiet() -> Iterator[None]:
    """What libraries log or warn about while they are imported is not a finding."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def constraint(name: str) -> str:
    """The versions of a library that this program requires, as ">=4.4"; empty when none are known."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        declared = [Requirement(text) for text in requires("llm_installer") or []]
    except PackageNotFoundError:
        return ""
    return next((str(r.specifier) for r in declared if canonicalize_name(r.name) == canonicalize_name(name)), "")


def _satisfies(found: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return not found or SpecifierSet(wanted).contains(found, prereleases=True)


def _memory() -> Check:
    free, total = memory_bytes()
    detail = f"{size(free)} of {size(total)} free"
    if free < 2 * GIB:
        return Check("memory", None, f"{detail}, which is little for a model", "close other programs")
    return Check("memory", True, detail)


def _disk() -> Check:
    free = shutil.disk_usage(nearest_existing(llm_home())).free
    detail = f"{size(free)} free in {short_path(llm_home())}"
    fix = "free some space, or set LLM_HOME to a folder on a larger disk"
    if free < GIB:
        return Check("disk", False, detail, fix)
    return (
        Check("disk", True, detail)
        if free >= 20 * GIB
        else Check("disk", None, f"{detail}, enough for small models only", fix)
    )


def _home() -> Check:
    home = llm_home()
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(home)):
            return Check("LLM_HOME", True, f"{short_path(home)} can be written to")
    except OSError as error:
        found = f"{short_path(home)} cannot be written to ({error.strerror})"
        return Check("LLM_HOME", False, found, "set LLM_HOME to a folder that can be written to")


def _token() -> Check:
    from huggingface_hub import get_token

    offer_token()
    if get_token():
        return Check("hub token", True, "present")
    return Check("hub token", None, "none, and only gated and private models need one",
                 f"set one with: {program()} config set {TOKEN}")  # fmt: skip


CHECKS: tuple[Callable[[], Check], ...] = (_python, _torch, _memory, _disk, _home, _token)


def _models() -> list[Check]:
    """One line for what is installed, one for each incomplete model, one for each unfinished install."""
    if not models_dir().is_dir():
        return [Check("models", True, "none are installed")]
    models = list_models()
    broken = [_broken(m) for m in models if not m.complete]
    left = [
        Check(p.name, None, f"{short_path(p)} was left by an interrupted install ({size(size_on_disk(p))})", _resume(p))
        for p in sorted(models_dir().glob(".*.installing"))
    ]
    left += [
        Check(p.name, None, f"{short_path(p)} was left by an interrupted remove", f"finish it with: {_remove(p)}")
        for p in sorted(models_dir().glob(".*.removing"))
    ]
    return [
        Check("models", True, f"{counted(len(models) - len(broken), 'model')} installed and complete"),
        *broken,
        *left,
    ]


def _broken(model: Installed) -> Check:
    if not model.readable:
        return Check(model.name, False, f"{short_path(model.root)} cannot be read", allow(model.root))
    return Check(model.name, False, f"{short_path(model.root)} is incomplete", _install_again(model))


def _install_again(model: Installed) -> str:
    link = " --link" if model.linked else ""
    return f"{program()} install {shlex.quote(model.id or 'MODEL')} --name {shlex.quote(model.name)} --force{link}"


def _resume(unfinished: Path) -> str:
    return f"run the install again to resume it, or delete it with: {_remove(unfinished)}"


def _remove(left: Path) -> str:
    name = left.name.removeprefix(".").removesuffix(".installing").removesuffix(".removing")
    return f"{program()} remove {shlex.quote(name)}"
