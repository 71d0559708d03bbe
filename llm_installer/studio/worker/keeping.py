"""What outlives a worker elsewhere: its newest checkpoint, sent every few minutes, brought back by who takes over."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import newest_step, newest_valid
from llm_installer.core.run.record import STOPPED, RunRecord
from llm_installer.core.text import shortened
from llm_installer.studio.checkpoints import BESIDE, NEEDED, RUN, step_of
from llm_installer.studio.options import ALLOWED
from llm_installer.studio.plain import Json
from llm_installer.studio.worker.client import Away, Refusal, Server
from llm_installer.studio.worker.run_folder import described
from llm_installer.studio.worker.telling import Telling, Work

LEASES = 3
"""A checkpoint is sent after as many leases, three minutes as a rule."""
Send = Callable[[str, Path], None]
"""Sends the content of a file that has a hash."""


class Keeping:
    """Sends the checkpoints of a job's run. `folder` is for what is being sent: links, so that the training may delete
    its own meanwhile."""

    def __init__(self, server: Server, telling: Telling, folder: Path, send: Send) -> None:
        self._server, self._telling, self._folder, self._send = server, telling, folder, send
        self._work = telling.work
        self._wanted = self._work.engine != "local"  # whoever takes that one over has the same disk
        self._next = time.monotonic() + LEASES * self._work.lease
        self._sent = _step(self._work.checkpoint)

    def look(self, run: Run | None) -> None:
        """Send the newest checkpoint where it is time for that. Raises Cancelled, Ending and Replaced."""
        if self._wanted and run and time.monotonic() >= self._next:
            self._next = time.monotonic() + LEASES * self._work.lease
            self.send(run)

    def send(self, run: Run | None) -> None:
        """Send the newest checkpoint that the studio does not have. A studio that is away, or has no room, gets it the
        next time."""
        step = newest_step(run) if self._wanted and run else None
        if run is None or step is None or step <= self._sent:
            return
        try:
            files = self._staged(run, step)
            found = described(files)
            for one in found:
                self._send(str(one["sha256"]), files[str(one["path"])])
            said = {"attempt": self._work.attempt, "run": run.id, "step": step, "files": found}
            self._server.tell(self._work.id, "checkpoint", said)
            self._sent = step
            self._telling.say(f"The checkpoint of step {step} is kept by the studio")
        except Away:
            pass
        except (Refusal, OSError) as error:
            self._telling.say(f"The checkpoint of step {step} could not be kept ({error})", "warn")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _staged(self, run: Run, step: int) -> dict[str, Path]:
        """The files to send, by their path in the run's folder. Raises OSError where the training deleted one."""
        shutil.rmtree(self._folder, ignore_errors=True)
        found = {}
        for name in (*NEEDED, *BESIDE):
            if (run.root / name).is_file():
                found[name] = self._folder / name
                found[name].parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run.root / name, found[name])  # the training writes to it
        for file in sorted((run.checkpoints / f"checkpoint-{step}").iterdir()):
            path = f"checkpoints/{file.parent.name}/{file.name}"
            if step_of(path) is not None:
                found[path] = self._folder / path
                found[path].parent.mkdir(parents=True, exist_ok=True)
                _link(file, found[path])
        return found


def brought_back(
    server: Server, work: Work, folder: ModelDir, here: Run | None, given: Mapping[str, Path]
) -> Run | None:
    """The run to resume: that of this machine, or the one whose checkpoint the studio has where that is newer. `given`
    are the files of the job on this machine. Raises Away, Refusal, Replaced and OSError."""
    kept = work.checkpoint
    if not kept or _step(kept) <= (newest_step(here) or 0 if here else 0):
        return here
    run, fresh = folder.runs / str(kept["run"]), folder.runs / f".taking-over-{work.id}"
    files = kept["files"]
    assert isinstance(files, list) and RUN.fullmatch(run.name)
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for one in files:
            path = str(one["path"])
            assert path in (*NEEDED, *BESIDE) or step_of(path) is not None
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            server.fetch_checkpoint(work.id, path, fresh / path)
        if not _own(Run(fresh), folder, given) or not newest_valid(Run(fresh), lambda text: None):
            return here
        if here:
            shutil.rmtree(here.root, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)
        fresh.rename(run)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Run(run)


def _own(run: Run, folder: ModelDir, given: Mapping[str, Path]) -> bool:
    """Make the record of a run that began elsewhere one of this machine: its own files, and options that a job may
    have; False where there is no record."""
    record = RunRecord.read(run)
    if record is None:
        return False
    options = {name: value for name, value in record.options.items() if name in ALLOWED}
    options |= {name: str(file) for name, file in given.items()}
    options |= {"model_path": str(folder.root)} if "model_path" in record.options else {}
    words = shortened(record.data, 200)
    replace(record, status=STOPPED, options=options, base=str(folder.root), data=words, result={}).write(run)
    return True


def _step(kept: Json | None) -> int:
    step = kept.get("step") if kept else None
    return step if isinstance(step, int) else 0


def _link(file: Path, place: Path) -> None:
    with suppress(OSError):
        os.link(file, place)
        return
    shutil.copyfile(file, place)
