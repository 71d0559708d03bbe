"""What a file would become as training data, and a training on it: asked of the command line, in a bounded child.

The child process may use so much memory and time and no more. An upload may be anything; what it breaks is the child.

The answer is the object that docs/reference/json.md describes; one that is an error has `error` alone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from llm_installer.core.text import GIB, shortened, size
from llm_installer.studio.warm import Away, Warm

Values = dict[str, object]
AT_ONCE = threading.BoundedSemaphore(2)
"""Children at a time; others wait for their turn."""
LARGEST = 32 << 20
"""Bytes of an answer."""
WARM = Warm()
"""What has loaded torch already."""
TYPED_WRONG = 2
"""The exit code of a command with a value that cannot be."""
_CHILD = (
    "import resource, sys\n"
    "memory, seconds = int(sys.argv.pop(1)), int(sys.argv.pop(1))\n"
    "resource.setrlimit(resource.RLIMIT_AS, (memory, memory))\n"
    "resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    "from llm_installer.cli.main import main\n"
    "main()\n"
)
"""Limits itself before it reads a byte of what it was given."""


@dataclass(frozen=True)
class Limits:
    """What a child may use."""

    memory: int
    """Bytes of address space, which is more than what it touches."""
    seconds: int
    """Of all its threads together; on the clock it may take PATIENCE times as long, on a machine that is busy."""


PATIENCE = 3
READING = Limits(int(1.5 * GIB), 60)
"""For a dataset alone."""
ENCODING = Limits(6 * GIB, 60)
"""With a tokenizer, and for a plan: torch maps gigabytes before it does anything."""
TIMING = Limits(0, 300)
"""The model itself is loaded: all the memory there is."""


def dataset(file: Path, model: str = "", shown: int = 8, options: Mapping[str, object] | None = None) -> Values:
    """What is in a file; with a model, its first rows as tokens too."""
    words = ["data", file.name, *flags(options or {})]
    words += ["--model", model, "--show", str(shown)] if model else []
    return asked([*words, "--json"], file.parent, ENCODING if model else READING, bool(model))


def plan(file: Path, model: str, options: Mapping[str, object], timed: bool = False) -> Values:
    """What training a model on a file would be; `timed` loads it, and times a few steps."""
    words = ["train", model, "--data", file.name, "--dry-run", "--json", *flags(options)]
    return asked([*words, "--timed"] if timed else words, file.parent, TIMING if timed else ENCODING, True)


def flags(options: Mapping[str, object]) -> list[str]:
    """Options as they are typed; a value that begins with a dash stays a value."""
    found = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        found += [flag] if value is True else [] if value in (False, None, "") else [f"{flag}={value}"]
    return found


def asked(words: Sequence[str], folder: Path, limits: Limits, warm: bool = False) -> Values:
    """The answer of a command that is run in `folder`: an object, with `error` where there is none. `warm` is for what
    needs torch, which a process has loaded already then."""
    run = _run_warm if warm else _run
    with AT_ONCE, TemporaryFile() as out, TemporaryFile() as said:
        try:
            code = run(words, folder, limits, out.fileno(), said.fileno())
        except subprocess.TimeoutExpired:
            return {
                "error": f"This took longer than {PATIENCE * limits.seconds} seconds, and was ended; try a smaller file"
            }
        out.seek(0)
        text = out.read(LARGEST + 1)
        sentence = _refusal(said) if code == TYPED_WRONG else ""
    if len(text) > LARGEST:
        return {"error": f"What there is to say about this is longer than {size(LARGEST)}; try a smaller file"}
    with suppress(ValueError):
        if isinstance(found := json.loads(text), dict):
            return found
    return {"error": sentence or _broken(code, limits)}


def _refusal(said: IO[bytes]) -> str:
    """The sentence about a value that cannot be."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - 8192))
    lines = said.read().decode("utf-8", "replace").splitlines()
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return shortened(errors[-1], 400) if errors else ""


def _run_warm(words: Sequence[str], folder: Path, limits: Limits, out: int, said: int) -> int:
    """The same by the process that waits with torch in memory, where there is one. Raises TimeoutExpired."""
    memory = limits.memory or resource.RLIM_INFINITY
    question = {"words": list(words), "folder": str(folder.absolute()), "limits": [memory, limits.seconds]}
    try:
        child = WARM.ask(question, out, said)
        try:
            return child.wait(PATIENCE * limits.seconds)
        finally:
            child.close()
    except Away:
        return _run(words, folder, limits, out, said)


def _run(words: Sequence[str], folder: Path, limits: Limits, out: int, said: int) -> int:
    """The exit code of the command; whatever it started has ended, too. Raises TimeoutExpired."""
    memory = limits.memory or resource.RLIM_INFINITY
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(memory), str(limits.seconds), *words],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=said,
        start_new_session=True,
    )  # fmt: skip
    try:
        return child.wait(PATIENCE * limits.seconds)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _broken(code: int, limits: Limits) -> str:
    if code == -signal.SIGXCPU:
        return f"This takes more than {limits.seconds} seconds to be read, and was ended; try a smaller file"
    if limits.memory:
        return f"This needs more than {size(limits.memory)} of memory to be read, or cannot be read; try a smaller file"
    return f"This ended without an answer (code {code}); the memory of this machine may be too small for it"
