"""One job from its claim to its end: data, model, training, result; told to the server as often as it can be reached.

Training never waits for the server. What could not be told stays in the folder of the run, and is told later.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import newest_valid
from llm_installer.core.run.lock import holder
from llm_installer.core.run.record import FAILED, RUNNING, RunRecord
from llm_installer.studio import states
from llm_installer.studio.blobs import file_hash
from llm_installer.studio.options import VALIDATION, words
from llm_installer.studio.plain import plain_name
from llm_installer.studio.worker import run_folder
from llm_installer.studio.worker.child import Child
from llm_installer.studio.worker.client import Away, Json, Patience, Refusal, Replaced, Server, pieces
from llm_installer.studio.worker.run_folder import Metrics

EVERY = 0.5
"""Seconds between two looks at the run."""
WORDS = 8
"""Times that the end of a job is told to a server that is away; without that it learns it from the lease."""


class Cancelled(InstallerError):
    """Someone wants the job to end."""


class Ending(InstallerError):
    """This worker is to end."""


class Broken(InstallerError):
    """The job cannot be done."""


@dataclass(frozen=True)
class Work:
    """What the server said of a claimed job."""

    id: str
    attempt: int
    model: str
    options: Json
    data: Mapping[str, object] | None
    lease: float
    sent: Mapping[str, int] = field(default_factory=dict)
    """The last step of each kind of metrics that the server has."""

    @classmethod
    def of(cls, claimed: Json) -> Work:
        """From the answer to a claim."""
        options, data, sent = (claimed.get(name) or {} for name in ("options", "data", "sent"))
        assert isinstance(options, dict) and isinstance(data, dict) and isinstance(sent, dict)
        attempt, lease = claimed["attempt"], claimed["lease"]
        assert isinstance(attempt, int) and isinstance(lease, (int, float))
        return cls(str(claimed["id"]), attempt, str(claimed["model"]), options, data or None, lease, sent)


class Job:
    """A claimed job while it is done. `folder` is its own on this machine: data and log, and never another job's."""

    def __init__(self, server: Server, work: Work, folder: Path, ending: threading.Event) -> None:
        self._server, self._work, self._folder, self._ending = server, work, folder, ending
        self._state, self._state_told = states.PREPARING, states.PREPARING
        self._waiting: list[Json] = []
        self._metrics = Metrics(dict(work.sent))
        self._next, self._patience = 0.0, Patience()
        self._child: Child | None = None
        self._since = 0.0  # when it was started, in seconds since 1970: what its run says from before is not of it

    def do(self) -> None:
        """Do it; however that ends, the server hears of it, unless another attempt has the job by then."""
        try:
            self._do()
        except Replaced:
            pass  # whoever has the job now must not find this one at work
        except Cancelled:
            self._end("fail", "It was cancelled")
        except Ending:
            self._end("give-back", "its worker was stopped")
        except (Broken, Refusal, ModelError) as why:
            self._end("fail", str(why))
        finally:
            if self._child:
                self._child.close()

    def _do(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        data = self._fetched("data")
        validation = self._fetched(VALIDATION) if VALIDATION in self._work.options else None
        folder = self._installed()
        run = run_folder.run_of(folder, data)
        record = RunRecord.read(run) if run else None
        if run is None or record is None or record.status in (RUNNING, FAILED) or not record.result:
            self._wait_for_turn(folder)
            self._trained(folder, data, validation, run)
            run = run_folder.run_of(folder, data)
        if run is None:
            raise Broken("The training left no run")
        self._hand_in(folder, run)

    def _fetched(self, what: str) -> Path:
        """A file of the job, got from the server where it is not here yet; its name is the one it was uploaded by."""
        known = self._work.data or {}
        name = plain_name(str(known.get("name", "data"))) if what == "data" else "validation.jsonl"
        place = self._folder / what / name
        if place.is_file() and (what != "data" or file_hash(place) == known.get("sha256")):
            return place
        place.parent.mkdir(exist_ok=True)
        part = place.with_name(f".{place.name}.part")
        self._persist(lambda: self._server.fetch(self._work.id, part, what != "data"))
        if what == "data" and file_hash(part) != known.get("sha256"):
            raise Broken("The data came with another hash than they have on the server")
        part.replace(place)
        return place

    def _installed(self) -> ModelDir:
        """The model's directory; it is installed where it is not there."""
        name = self._work.model
        try:
            return ModelDir.find(name)
        except ModelError:
            self._state = states.INSTALLING
        self._say(f"Installing {name}")
        self._run(["install", name], None)
        try:
            return ModelDir.find(name)
        except ModelError:
            return ModelDir.find(name.rpartition("/")[2])

    def _wait_for_turn(self, folder: ModelDir) -> None:
        said = False
        while who := holder(folder):
            if not said:
                self._say(f"Waiting for {who}, which trains {folder.root.name} now", "warn")
            said = True
            self._pause()

    def _trained(self, folder: ModelDir, data: Path, validation: Path | None, run: Run | None) -> None:
        """Train, or resume; what an earlier attempt left without a checkpoint is begun again."""
        options = {name: value for name, value in self._work.options.items() if name != VALIDATION}
        if validation:
            options[VALIDATION] = str(validation)
        asked = ["train", str(folder.root), f"--data={data}", *words(options)]
        if run and newest_valid(run, self._say):
            asked = ["train", str(folder.root), f"--resume-from={run.root}"]
            self._say(f"Resuming run {run.id}")
        elif run:
            self._say("The earlier attempt had no checkpoint yet, so training begins again")
            shutil.rmtree(run.root, ignore_errors=True)
        elif self._work.attempt > 1:
            self._say("There is nothing of the earlier attempt on this machine, so training begins again", "warn")
        self._run(asked, lambda: run_folder.run_of(folder, data))

    def _run(self, asked: list[str], find: Callable[[], Run | None] | None) -> None:
        """A command to its end, looked at meanwhile. Raises Broken with what it said."""
        self._since = time.time()
        child = self._child = Child(asked, self._folder / "worker.log")
        run: Run | None = None
        while (code := child.poll()) is None:
            run = run or (find() if find else None)
            try:
                self._pause(run)
            except (Cancelled, Ending):
                child.stop()
                if run:
                    self._look(run)
                raise
        if run or (run := find() if find else None):
            self._look(run)
        child.close()
        if code:
            killed = f" (it was killed by signal {code - 128}; -9 means too little memory)" if code > 128 else ""
            raise Broken(child.why() + killed)

    def _hand_in(self, folder: ModelDir, run: Run) -> None:
        """Send the files of a run that has ended, then say so."""
        self._state = states.UPLOADING
        while self._look(run) or self._waiting:
            self._pause()
        files = run_folder.files_of(run)
        described = run_folder.described(files)
        for one in described:
            self._persist(partial(self._send, str(one["sha256"]), files[str(one["path"])]))
        result, measured = run_folder.result_of(folder, run)
        done = {"attempt": self._work.attempt, "files": described, "result": result, "measured": measured}
        self._persist(lambda: self._server.tell(self._work.id, "complete", done))

    def _send(self, sha256: str, file: Path) -> None:
        """What the server does not have of a file; the lease is renewed meanwhile."""
        start, complete = self._server.offset(sha256)
        if complete:
            return
        total = file.stat().st_size
        for offset, piece in pieces(file, start):
            self._server.put(sha256, offset, piece, total)
            self._tell()

    def _say(self, text: str, level: str = "info") -> None:
        self._waiting.append({"type": "message", "level": level, "data": {"text": text}})

    def _pause(self, run: Run | None = None) -> None:
        """A moment, and a word to the server. Raises Cancelled, Replaced and Ending."""
        if run:
            self._look(run)
        self._tell()
        if self._ending.wait(EVERY):
            raise Ending("This worker is to end")

    def _look(self, run: Run) -> bool:
        """Read what the run has written; whether there were new numbers."""
        seen = run_folder.progress_of(run)
        if seen and seen.updated >= self._since and self._state in (states.PREPARING, states.INSTALLING):
            self._state = states.TRAINING
        new = self._metrics.new(run) if len(self._waiting) < run_folder.AT_ONCE else []
        self._waiting += [{"type": "metrics", "data": one} for one in new]
        self._seen: Json = {"run": run.id}
        if seen:
            self._seen |= {"step": seen.step, "steps": seen.total_steps, "progress": run_folder.percent(seen)}
        return bool(new)

    _seen: Json = {}  # noqa: RUF012  replaced, never changed in place

    def _tell(self) -> None:
        """Tell what is new, or that this worker is there. A server that is away is tried again later."""
        due = self._waiting or self._state != self._state_told or time.monotonic() >= self._next
        if not due or not self._patience.over:
            return
        events, state = self._waiting[: 2 * run_folder.AT_ONCE], self._state
        try:
            heard = self._server.tell(
                self._work.id,
                "report",
                {"attempt": self._work.attempt, "state": state, "events": events, **self._seen},
            )
        except Away:
            self._patience.failed()
            return
        self._patience.met()
        self._waiting, self._state_told = self._waiting[len(events) :], state
        self._next = time.monotonic() + self._work.lease / 4
        if heard.get("cancel"):
            raise Cancelled("The job was cancelled")

    def _persist(self, call: Callable[[], object]) -> None:
        """Do something with the server until it can be reached."""
        patience = Patience()
        while True:
            try:
                call()
                return
            except Away:
                if self._ending.wait(patience.failed()):
                    raise Ending("This worker is to end") from None

    def _end(self, how: str, why: str) -> None:
        if self._child:
            self._child.close()
        patience = Patience(2.0)
        for _ in range(WORDS):
            try:
                self._server.tell(self._work.id, how, {"attempt": self._work.attempt, "why": why})
                return
            except Away:
                time.sleep(patience.failed())
            except (Replaced, Refusal):
                return
