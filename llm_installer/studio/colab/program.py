"""Google's own program `colab`, where it is installed: a session runs the notebook of a job, and is always ended.

The session is begun, runs the notebook, hands over the result, and is ended, whatever happened. The program is called
as a user would call it, and nothing of it is imported.

https://github.com/googlecolab/google-colab-cli
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from llm_installer.core.errors import InstallerError
from llm_installer.core.text import shortened
from llm_installer.studio.colab.notebook import NotebookJob, notebook
from llm_installer.studio.colab.wheel import Wheel

NAME = "colab"
GPUS = ("T4", "L4", "G4", "A100", "H100")
"""What it knows; for any other name it would take the most expensive one."""
HOURS = 24
"""A session lives no longer, so no cell does."""
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class ColabFailed(InstallerError):
    """Colab did not do what was asked; the message says what it said."""


@dataclass(frozen=True)
class Place:
    """Where a job is done."""

    gpu: str = "T4"
    program: str = NAME
    """The name of the program, or its path."""


def installed(program: str = NAME) -> bool:
    """Whether the program can be called."""
    return shutil.which(program) is not None


def run_on_colab(job: NotebookJob, wheel: Wheel, folder: Path, place: Place, say: Callable[[str], None]) -> Path:
    """Do a job in a session of its own, and return its result file in `folder`. Each line that the notebook prints is
    said; one comes at least every 20 seconds, since the program takes silence for death.

    Raises ColabFailed; the session is ended then, too, so that it uses nothing up.
    """
    if place.gpu not in GPUS:
        raise ColabFailed(f"Colab has no GPU called {shortened(place.gpu, 40)}; choose one of {', '.join(GPUS)}")
    if not installed(place.program):
        raise ColabFailed(f"{place.program} is not on PATH; see https://github.com/googlecolab/google-colab-cli")
    folder.mkdir(parents=True, exist_ok=True)
    file, result = folder / "job.ipynb", folder / f"{job.id}.result.zip"
    file.write_bytes(notebook(replace(job, hand_over=False), wheel))
    session = ["--session", f"llm-{re.sub('[^a-z0-9]', '', job.id.lower())[:12]}"]
    call = _Calls(place.program, say)
    try:
        call("new", *session, "--gpu", place.gpu)
        call("exec", *session, "--timeout", str(HOURS * 3600), "--file", str(file))
        call("download", *session, f"content/{result.name}", str(result))
    finally:
        call.quietly("stop", *session)
    if not result.is_file():
        raise ColabFailed("The session ended without a result; what it printed says why")
    return result


class _Calls:
    """Calls of the program, one after the other."""

    def __init__(self, program: str, say: Callable[[str], None]) -> None:
        self._program, self._say = program, say

    def __call__(self, *words: str) -> None:
        """Raises ColabFailed where it ends with an error, with the last that it said."""
        said = ""
        command = [self._program, *words]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            with _ended_on_failure(process):
                for line in process.stdout:
                    if plain := _CONTROLS.sub("", line).strip():
                        said = plain
                        self._say(shortened(plain, 500))
        if process.returncode:
            raise ColabFailed(f"colab {words[0]} failed: {shortened(said or 'it said nothing', 300)}")

    def quietly(self, *words: str) -> None:
        """What it says, and whether it works, matters to nobody."""
        subprocess.run([self._program, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False)


@contextmanager
def _ended_on_failure(process: subprocess.Popen[str]) -> Iterator[None]:
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            process.terminate()
