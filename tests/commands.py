"""llm-installer as users type it, in a process of its own that is forked where the libraries are loaded already.

A start of Python imports for seconds what the next one imports again. Tests of start-up itself, of signals to whole
groups, and of environments do not use this.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PATIENCE = 120.0
"""Seconds that a command may take."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["torch", "transformers", "peft", "accelerate", "datasets", "llm_installer.train_lora"]
)


def command(*words: str | Path, cwd: str | Path | None = None, input: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end; stdout and stderr apart, neither a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        for stream, text in zip(streams, (input, "", ""), strict=True):
            stream.write_text(text, encoding="utf-8")
        given = [str(word) for word in words]
        process = processes.Process(target=_run, args=(given, streams, dict(os.environ), str(cwd or Path.cwd())))
        process.start()
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(given, PATIENCE)
        said, wrong = (stream.read_text(encoding="utf-8") for stream in streams[1:])
    return subprocess.CompletedProcess(given, process.exitcode, said, wrong)


def _run(words: list[str], streams: list[Path], environment: dict[str, str], folder: str) -> None:
    """In the forked process, which has its streams, environment and folder from whoever forked first."""
    from llm_installer.cli.main import main

    for number, (stream, flags) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        os.dup2(os.open(stream, flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  multiprocessing opened nothing there
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["llm-installer", *words]
    main()
