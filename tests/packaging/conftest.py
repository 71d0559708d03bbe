"""A checkout whose launcher meets stand-ins for venv, pip and the program: the set-up without its minutes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
STAND_INS = Path(__file__).parent / "stand_ins"
TOOLS = "sh awk cat cksum df dirname grep mkdir mv readlink rm rmdir sed tr uname"
CONSTRAINTS = "torch==9.9.9\npip==1.2.3\nsetuptools==4.5.6\n"
PATIENCE = 60


@dataclass
class Checkout:
    """A fresh clone, and the ways to start it."""

    root: Path
    bin: Path
    calls_file: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def open(
        self,
        *arguments: str,
        command: Path | None = None,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
        **settings: str,
    ) -> subprocess.Popen[str]:
        """Start the launcher in a process group of its own, which a test may kill."""
        process = subprocess.Popen(
            [str(command or self.root / "llm-installer"), *arguments],
            env={
                "PATH": str(self.bin),
                "PYTHONPATH": str(STAND_INS),
                "PYTHONDONTWRITEBYTECODE": "1",
                "STUB_CALLS": str(self.calls_file),
                **settings,
            },
            cwd=self.bin,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def start(self, *arguments: str, command: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
        process = self.open(*arguments, command=command, **settings)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def take_calls(self) -> list[list[str]]:
        """What was called since the last time, in order; pip without the options that every call has."""
        if not self.calls_file.exists():
            return []
        calls = [json.loads(line) for line in self.calls_file.read_text(encoding="utf-8").splitlines()]
        self.calls_file.unlink()
        common = ["--log", f"{self.root}/.venv/install.log.pip", "--disable-pip-version-check", "--no-input"]
        return [call[:1] + call[5:] if call[1:5] == common else call for call in calls]

    def tool(self, name: str, script: str) -> None:
        """Put a command on PATH."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (self.bin / name).chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A clone in a folder with a space, and a PATH that holds only what the launcher may use."""
    made = Checkout(tmp_path / "a check out", tmp_path / "bin", tmp_path / "calls")
    made.root.mkdir()
    made.bin.mkdir()
    shutil.copy2(REPO / "llm-installer", made.root)
    (made.root / "constraints.txt").write_text(CONSTRAINTS, encoding="utf-8")
    (made.root / "setup.py").write_text("", encoding="utf-8")
    for tool in TOOLS.split():
        found = shutil.which(tool)
        assert found, f"the launcher needs {tool}"
        (made.bin / tool).symlink_to(found)
    (made.bin / "python3").symlink_to(os.path.realpath(sys.executable))
    yield made
    for process in made.running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
