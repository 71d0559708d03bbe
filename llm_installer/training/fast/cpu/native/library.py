"""Compiles the kernels with the machine's own C compiler, for its own processor, and loads them.

Delete with functions.py and attention.py, or when the package is distributed with compiled kernels for each processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import stat
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from llm_installer.core.files import sync
from llm_installer.core.hardware import c_compiler
from llm_installer.core.home import cache_dir
from llm_installer.core.text import short_path

HERE = Path(__file__).parent
SOURCES = ("pointwise.c", "attention.c")
FLAGS = ("-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math",
         "-fno-strict-aliasing", "-shared", "-fPIC")  # fmt: skip
"""Sums may be taken in any order; infinity and NaN stay what they are."""
SUFFIX = ".so"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
NO_COMPILER = "there is no C compiler; with one (gcc, or clang with OpenMP) training here is faster"
LIMIT = 120.0
"""Seconds a compiler may take; two are usual."""

_pointer, _count, _real, _choice = ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_int
FUNCTIONS = {
    "norm_forward": (_pointer,) * 4 + (_count, _count, _real, _real, _choice),
    "norm_backward": (_pointer,) * 5 + (_count, _count, _real),
    "gate_forward": (_pointer,) * 3 + (_count, _choice),
    "gate_backward": (_pointer,) * 3 + (_count, _choice),
    "norm_backward_onto": (_pointer,) * 6 + (_count, _count, _real),
    "gate_rows": (_pointer,) * 2 + (_count, _count, _choice),
    "gate_rows_back": (_pointer,) * 2 + (_count, _count, _choice),
    "turn": (_pointer,) * 4 + (_count,) * 8 + (_choice,),
    "rotary": (_pointer,) * 4 + (_count,) * 5 + (_choice,),
    "loss": (_pointer,) * 3 + (_count, _count, _real, _choice),
    "attention_forward": (_pointer,) * 6 + (_count,) * 4 + (_pointer, _real),
    "attention_backward": (_pointer,) * 10 + (_count,) * 4 + (_pointer, _real),
}
"""What each takes. Those of attention are only there for processors with dot products of bfloat16, and return 0 where
memory is short; the others return nothing of use."""


@lru_cache(maxsize=1)
def library() -> tuple[ctypes.CDLL | None, str]:
    """The kernels, or why there are none: a clause that follows a colon."""
    compiler = c_compiler()
    if not compiler:
        return None, NO_COMPILER + (" (CC names none that can be run)" if os.environ.get("CC") else "")
    try:
        loaded = ctypes.CDLL(str(kept(folder(), fingerprint(compiler)) or build(compiler, folder())))
        for name, takes in FUNCTIONS.items():
            if hasattr(loaded, name):
                getattr(loaded, name).argtypes = takes
        return loaded, ""
    except subprocess.CalledProcessError as error:
        said = next(iter(error.stderr.splitlines()), "") or f"it ended with {error.returncode}"
        return None, f"the C compiler cannot make faster ones ({said})"
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"faster ones cannot be made ({error})"


def folder() -> Path:
    """Where compiled kernels are kept: LLM_KERNELS, or beside the other caches."""
    return Path(os.environ.get("LLM_KERNELS") or cache_dir() / "kernels")


def fingerprint(compiler: list[str]) -> str:
    """Differs wherever the compiled code may differ: a home directory can be shared by unlike machines."""
    command = " ".join((*compiler, *FLAGS))
    parts = [_run([*compiler, "--version"]).encode(), processor().encode(), command.encode()]
    parts += [(HERE / name).read_bytes() for name in ("numbers.h", *SOURCES)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def processor() -> str:
    """What this machine's processor is and can do."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join(sorted(told)) or f"{platform.machine()} {platform.processor()}"


def kept(folder: Path, name: str) -> Path | None:
    """The kernels of this name in `folder`, if they are as this user's compiler made them; what is not is deleted.

    What is loaded runs as this user, and a file that was cut would end the process at once. Raises OSError where the
    folder is somebody else's, who could exchange what was looked at.
    """
    if not folder.is_dir():
        return None
    _only_ours(folder)
    for file in folder.glob(f"{name}-*{SUFFIX}"):
        if _own(file) and file.name == _named(name, file.read_bytes()):
            return file
        file.unlink()
    return None


def build(compiler: list[str], folder: Path) -> Path:
    """Compile into a temporary file, then put it in `folder` at once: another process may be doing the same."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _only_ours(folder)
    tuned = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        new = Path(beside) / "kernels"
        sources = [str(HERE / name) for name in SOURCES]
        _run([*compiler, *FLAGS, tuned, "-o", str(new), *sources, "-lm"])
        new.chmod(0o700)
        made = folder / _named(fingerprint(compiler), new.read_bytes())
        with new.open("rb+") as written:
            sync(written.fileno())
        os.replace(new, made)
    return made


def _named(name: str, content: bytes) -> str:
    """The file name of kernels: it tells how they were made, and what they are."""
    return f"{name}-{hashlib.sha256(content).hexdigest()}{SUFFIX}"


def _only_ours(folder: Path) -> None:
    """Let nobody else write in `folder`. Raises PermissionError where it is not this user's."""
    if os.name != "nt" and folder.stat().st_uid == os.geteuid():
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~OTHERS_WRITE)
    if not _own(folder):
        raise PermissionError(f"{short_path(folder)} is somebody else's; name a folder of your own in LLM_KERNELS")


def _own(path: Path) -> bool:
    """Whether `path` is this user's, no link, and nobody else may write there. Windows has no such bits."""
    if os.name == "nt":
        return True
    found = path.stat() if path.is_dir() else path.lstat()
    return found.st_uid == os.geteuid() and not found.st_mode & OTHERS_WRITE and not stat.S_ISLNK(found.st_mode)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", errors="replace", timeout=LIMIT)
    return done.stdout
