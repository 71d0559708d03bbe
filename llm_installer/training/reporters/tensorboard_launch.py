"""What the child process of tensorboard_server.py runs: TensorBoard, until its parent has ended, even if killed.

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


def short_name(name: str) -> str:
    """The name of a run's curves: that of the run, without the folder in it where its event files are."""
    run, _, rest = name.partition("/")
    return "/".join([run, *(part for part in rest.split("/") if part and part != "logs")])


def _shorten_names() -> None:
    """TensorBoard calls a run by the path of its event files, and has no other way to say its name."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import (  # type: ignore[import-untyped]
        EventMultiplexer,
    )

    add = EventMultiplexer.AddRun
    EventMultiplexer.AddRun = lambda self, path, name=None: add(self, path, name and short_name(name))


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
    _shorten_names()
    run_main()


if __name__ == "__main__":
    main()
