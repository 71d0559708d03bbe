"""Compiles the kernels with the machine's own C compiler, for its own processor, and loads them.

Delete with functions.py and attention.py, or when the package is distributed with compiled kernels for each processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from llm_installer.core.hardware import c_compiler
from llm_installer.core.paths import cache_dir

HERE = Path(__file__).parent
SOURCES = ("pointwise.c", "attention.c")
FLAGS = ("-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math",
         "-fno-strict-aliasing", "-shared", "-fPIC")  # fmt: skip
"""Sums may be taken in any order; infinity and NaN stay what they are."""
LIMIT = 120.0
"""Seconds a compiler may take; two are usual."""

_pointer, _count, _real, _choice = ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_int
FUNCTIONS = {
    "norm_forward": (_pointer,) * 4 + (_count, _count, _real, _real, _choice),
    "norm_backward": (_pointer,) * 5 + (_count, _count, _real),
    "gate_forward": (_pointer,) * 3 + (_count, _choice),
    "gate_backward": (_pointer,) * 3 + (_count, _choice),
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
        return None, "there is no C compiler; with one (gcc, or clang with OpenMP) training here is faster"
    try:
        made = folder() / f"{fingerprint(compiler)}.so"
        if not made.exists():
            build(compiler, made)
        loaded = ctypes.CDLL(str(made))
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


def build(compiler: list[str], made: Path) -> None:
    """Compile into a file beside `made`, then put it there at once: another process may be doing the same."""
    made.parent.mkdir(parents=True, exist_ok=True)
    tuned = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    with tempfile.TemporaryDirectory(dir=made.parent) as beside:
        new = Path(beside) / made.name
        sources = [str(HERE / name) for name in SOURCES]
        _run([*compiler, *FLAGS, tuned, "-o", str(new), *sources, "-lm"])
        os.replace(new, made)


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=LIMIT).stdout
