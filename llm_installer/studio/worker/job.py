"""One job from its claim to its end: data, model, training, result."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import newest_valid
from llm_installer.core.run.lock import holder
from llm_installer.core.text import short_path
from llm_installer.studio import insight, states
from llm_installer.studio.blobs import file_hash
from llm_installer.studio.options import VALIDATION, words
from llm_installer.studio.plain import plain_name
from llm_installer.studio.worker import room, run_folder
from llm_installer.studio.worker.child import Child
from llm_installer.studio.worker.client import Replaced, Server, pieces
from llm_installer.studio.worker.keeping import Keeping, brought_back
from llm_installer.studio.worker.run_folder import Metrics
from llm_installer.studio.worker.telling import Cancelled, Ending, Telling, Work

EVERY = 0.5
"""Seconds between two looks at the run."""


class Broken(InstallerError):
    """The job cannot be done."""


class Job:
    """A claimed job while it is done. `folder` is its own on this machine: data and log, and never another job's."""

    def __init__(self, server: Server, work: Work, folder: Path, ending: threading.Event) -> None:
        self._server, self._work, self._folder = server, work, folder
        self._telling = Telling(server, work, ending)
        self._metrics = Metrics(dict(work.sent))
        self._keeping = Keeping(server, self._telling, folder / "keeping", self._send)
        self._child: Child | None = None
        self._run_of_child: Run | None = None
        self._since = 0.0
        """When it was started, in seconds since 1970: what its run says from before is not of it."""

    def do(self) -> None:
        """Do it; however that ends, the studio hears of it, unless another attempt has the job by then."""
        how = why = ""
        try:
            self._do()
        except Replaced:
            pass  # whoever has the job now must not find this one at work
        except Cancelled:
            how, why = "fail", "It was cancelled"
        except Ending:
            how, why = "give-back", "its worker was stopped"
            with suppress(InstallerError):
                self._keeping.send(self._run_of_child)
        except InstallerError as error:
            how, why = "fail", str(error)
        except OSError as error:  # such as a full disk: it may go on once that is mended
            how, why = "fail", f"The worker cannot write its files ({error.strerror or error})"
        finally:
            if self._child:
                self._child.close()
        if how:
            self._telling.end(how, why)

    def _do(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        data = self._fetched("data")
        validation = self._fetched(VALIDATION) if VALIDATION in self._work.options else None
        folder = self._installed()
        run = self._brought_back(folder, data, validation)
        if run is None or not run_folder.is_done(run):
            self._wait_for_turn(folder)
            self._wait_for_memory(folder, data)
            self._trained(folder, data, validation, run)
            run = run_folder.run_of(folder, data)
        if run is None:
            raise Broken("The training left no run")
        self._hand_in(folder, run)

    def _fetched(self, what: str) -> Path:
        """A file of the job, got from the studio where it is not here yet; its name is the one it was uploaded by."""
        hashed = str((self._work.data or {}).get("sha256")) if what == "data" else ""
        folder = self._folder / what
        folder.mkdir(exist_ok=True)
        for place in folder.glob("[!.]*"):
            if not hashed or file_hash(place) == hashed:
                return place
        part, names = folder / ".part", [""]
        self._telling.persist(lambda: names.append(self._server.fetch(self._work.id, part, what != "data")))
        if hashed and file_hash(part) != hashed:
            raise Broken("The data came with another hash than they have in the studio")
        return part.replace(folder / plain_name(names[-1]))

    def _installed(self) -> ModelDir:
        """The model's directory; it is installed where it is not there."""
        name = self._work.model
        try:
            return ModelDir.find(name)
        except ModelError:
            self._telling.state = states.INSTALLING
        self._telling.say(f"Installing {name}")
        self._run(["install", name], lambda: None)
        return ModelDir.find(name)

    def _brought_back(self, folder: ModelDir, data: Path, validation: Path | None) -> Run | None:
        """The run of an earlier attempt, on this machine or from the studio."""
        here = run_folder.run_of(folder, data)
        given = {"data": data, **({VALIDATION: validation} if validation else {})}
        found = [here]
        self._telling.persist(lambda: found.append(brought_back(self._server, self._work, folder, here, given)))
        return found[-1]

    def _wait_for_turn(self, folder: ModelDir) -> None:
        said = False
        while who := holder(folder):
            if not said:
                self._telling.say(f"Waiting for {who}, which trains {folder.root.name} now", "warn")
            said = True
            self._telling.pause(EVERY)

    def _wait_for_memory(self, folder: ModelDir, data: Path) -> None:
        """While a chat holds what the training needs."""
        options = {name: value for name, value in self._work.options.items() if name != VALIDATION}
        said = ""
        while present := room.chats():
            why = room.in_the_way(insight.plan(data, str(folder.root), options), present)
            if not why:
                return
            if why != said:
                self._telling.say(why, "warn")
                said = why
            until = time.monotonic() + room.AGAIN
            while time.monotonic() < until and room.chats() == present:
                self._telling.pause(EVERY)

    def _trained(self, folder: ModelDir, data: Path, validation: Path | None, run: Run | None) -> None:
        """Train, or resume; what an earlier attempt left without a checkpoint is begun again."""
        options = {name: value for name, value in self._work.options.items() if name != VALIDATION}
        if validation:
            options[VALIDATION] = str(validation)
        asked, say = ["train", str(folder.root), f"--data={data}", *words(options)], self._telling.say
        if run and newest_valid(run, say):
            asked = ["train", str(folder.root), f"--resume-from={run.root}"]
            say(f"Resuming run {run.id}")
        elif run:
            say("The earlier attempt had no checkpoint yet, so training begins again")
            shutil.rmtree(run.root, ignore_errors=True)
        elif self._work.attempt > 1:
            say("There is nothing of the earlier attempt on this machine, so training begins again", "warn")
        self._run(asked, lambda: run_folder.run_of(folder, data))

    def _run(self, asked: list[str], find: Callable[[], Run | None]) -> None:
        """A command to its end, looked at meanwhile. Raises Broken with what it said."""
        self._since = time.time()
        child = self._child = Child(asked, self._folder / "worker.log")
        run: Run | None = None
        while (code := child.poll()) is None:
            run = self._run_of_child = run or find()
            self._look(run)
            try:
                self._keeping.look(run)
                self._telling.pause(EVERY)
            except (Cancelled, Ending):
                child.stop()
                raise
        self._look(run or find())
        child.close()
        why = child.why().replace(f"{short_path(self._folder)}/", "")  # a place that nobody but this worker knows
        if code > 128:
            raise Broken(f"{why} (signal {code - 128} ended it; 9 often means that memory ran out)")
        if code:
            raise Broken(why)

    def _look(self, run: Run | None) -> bool:
        """Read what the run has written; whether there were new numbers."""
        telling = self._telling
        if run is None:
            return False
        seen = run_folder.progress_of(run)
        if seen and seen.updated >= self._since and telling.state in (states.PREPARING, states.INSTALLING):
            telling.state = states.TRAINING
        new = self._metrics.new(run) if len(telling.waiting) < run_folder.AT_ONCE else []
        telling.waiting += [{"type": "metrics", "data": one} for one in new]
        telling.seen = {"run": run.id}
        if seen:
            telling.seen |= {"step": seen.step, "steps": seen.total_steps, "progress": run_folder.percent(seen)}
        return bool(new)

    def _hand_in(self, folder: ModelDir, run: Run) -> None:
        """Send the files of a run that has ended, then say so."""
        telling = self._telling
        telling.state = states.UPLOADING
        while self._look(run) or telling.waiting:
            telling.pause(EVERY if telling.waiting else 0)
        files = run_folder.files_of(run)
        described = run_folder.described(files)
        for one in described:
            telling.persist(partial(self._send, str(one["sha256"]), files[str(one["path"])]))
        result, measured = run_folder.result_of(folder, run)
        done = {"attempt": self._work.attempt, "files": described, "result": result, "measured": measured}
        telling.persist(lambda: self._server.tell(self._work.id, "complete", done))

    def _send(self, sha256: str, file: Path) -> None:
        """What the studio does not have of a file; the lease is renewed meanwhile."""
        start, complete = self._server.offset(sha256)
        if complete:
            return
        total = file.stat().st_size
        for offset, piece in pieces(file, start):
            self._server.put(sha256, offset, piece, total)
            self._telling.tell()
