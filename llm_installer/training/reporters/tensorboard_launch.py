"""What that child process runs: TensorBoard, until the process that started it has ended, even if that was killed.

Run as: python tensorboard_launch.py PARENT_PID [flags of tensorboard]
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _each_run_once() -> None:
    """lora/logs leads into the folder of the current run, where its curves are found anyway."""
    from tensorboard.backend.event_processing import io_wrapper  # type: ignore[import-untyped]

    again, every = f"{os.sep}adapter{os.sep}logs", io_wrapper.GetLogdirSubdirectories
    io_wrapper.GetLogdirSubdirectories = lambda path: (one for one in every(path) if again not in one[len(path) :])


def main() -> None:
    """Watch the parent, then become TensorBoard."""
    # Run by its path, this folder is on sys.path, and tensorboard.py in it would hide the real one.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    from tensorboard.main import run_main  # type: ignore[import-untyped]

    parent = int(sys.argv.pop(1))
    if os.name == "posix":  # elsewhere an orphan keeps its parent's id, so there is nothing to watch
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _each_run_once()
    run_main()


if __name__ == "__main__":
    main()
