"""The training of a notebook that no server follows: install the model, train or resume, write the one result file.

Run as: python -I -m llm_installer.studio.colab.alone job.json
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from llm_installer.core.errors import InstallerError, ModelError, TrainingError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import FINISHED, RunRecord
from llm_installer.studio.colab.bundle import Origin, write_bundle
from llm_installer.studio.colab.child import end_with_notebook, inherited, signal_at_death

NAME = "base"
"""Name of the model directory here; the notebook trains one model."""
KEEP_SECONDS = 180.0
"""Seconds between two copies of a run to a place that outlives this machine."""


def main(file: Path) -> int:
    """Do the job in this file. Returns the exit code."""
    job: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    kept = Path(str(job["kept"])) if job.get("kept") else None
    try:
        model = _model(str(job["model"]), str(job.get("revision") or ""))
        if kept and not any(model.runs.glob("*/run.json")):
            bring_back(kept, model)
        run = finished_run(model)
        if run is None:
            train(model, file.parent, [str(job["data"]), *_texts(job["words"])], kept)
            run = finished_run(model)
        if run is None:
            raise TrainingError("The training ended without a result; the lines above say why")
        write_bundle(run, model, Origin(str(job["job"]), str(job["version"])), Path(str(job["result"])))
    except InstallerError as error:
        print(error.said, flush=True)
        return error.exit_code
    return 0


def finished_run(model: ModelDir) -> Run | None:
    """The newest run that came to its end."""
    found = [run for run in _runs(model) if (record := RunRecord.read(run)) and record.status == FINISHED]
    return found[-1] if found else None


def train(model: ModelDir, folder: Path, words: Sequence[str], kept: Path | None) -> None:
    """Train with the data in `folder`, or go on where an earlier session ended. Raises TrainingError.

    A signal is handed on, and this process ends when the training has saved.
    """
    data, *options = words
    command = [*_PROGRAM, "train", NAME, "--data", data, "--resume", *options]
    process = subprocess.Popen(
        command, cwd=folder, env=inherited(), stdin=subprocess.DEVNULL, preexec_fn=signal_at_death
    )

    def hand_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    ended = threading.Event()
    copier = threading.Thread(target=_keep_copying, args=(model, kept, ended), daemon=True)
    if kept:
        copier.start()
    code = process.wait()
    ended.set()
    if kept:
        copier.join()
    if code:
        raise TrainingError(f"The training ended with exit code {code}; run this cell again to go on")


def keep_copy(model: ModelDir, kept: Path) -> None:
    """Copy the newest run to `kept`, complete or not at all; what is there already is replaced afterwards."""
    run = next(reversed(_runs(model)), None)
    if run is None:
        return
    fresh, old = kept / f"{run.id}.new", kept / run.id
    shutil.rmtree(fresh, ignore_errors=True)
    with suppress(OSError, shutil.Error):  # a checkpoint was replaced meanwhile, or there is no room: the next time
        shutil.copytree(run.root, fresh, symlinks=True, ignore=shutil.ignore_patterns(".*", "logs", "requests"))
        shutil.rmtree(old, ignore_errors=True)
        fresh.rename(old)


def bring_back(kept: Path, model: ModelDir) -> None:
    """Copy the newest run in `kept` to where it was."""
    found = sorted(place for place in kept.glob("*") if (place / "run.json").is_file())
    if found and not found[-1].name.endswith(".new"):
        shutil.copytree(found[-1], model.runs / found[-1].name, symlinks=True)
        print(f"Run {found[-1].name} is brought back.", flush=True)


_PROGRAM = [sys.executable, "-I", "-m", "llm_installer"]


def _model(name: str, revision: str) -> ModelDir:
    """The installed model. Raises InstallerError where it cannot be installed."""
    with suppress(ModelError):
        return ModelDir.find(NAME)
    command = [*_PROGRAM, "install", name, "--name", NAME, *(["--revision", revision] if revision else [])]
    code = subprocess.run(command, env=inherited(), stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise ModelError(f"{name} could not be installed; the lines above say why")
    return ModelDir.find(NAME)


def _keep_copying(model: ModelDir, kept: Path, ended: threading.Event) -> None:
    while not ended.wait(KEEP_SECONDS):
        keep_copy(model, kept)
    keep_copy(model, kept)


def _runs(model: ModelDir) -> list[Run]:
    return [Run(file.parent) for file in sorted(model.runs.glob("*/run.json"))]


def _texts(value: object) -> list[str]:
    assert isinstance(value, list), "the notebook wrote it"
    return [str(each) for each in value]


if __name__ == "__main__":
    end_with_notebook()
    sys.exit(main(Path(sys.argv[1])))
