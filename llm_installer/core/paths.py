"""The name of every file and folder, in one place."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from llm_installer.core.errors import ModelError, TrainingError, UsageError
from llm_installer.core.files import changeable, switch_link, unwritable
from llm_installer.core.hints import program, quoted, suggest, typed
from llm_installer.core.home import known_names, models_dir
from llm_installer.core.hub_base import not_installed, places
from llm_installer.core.text import short_path


@dataclass(frozen=True)
class Run:
    """Everything that one training run wrote."""

    root: Path

    @property
    def id(self) -> str:
        return self.root.name

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def record(self) -> Path:
        """What the run was asked for, and its status."""
        return self.root / "run.json"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Answers to the prompts of --eval-prompts at each evaluation."""
        return self.root / "samples.jsonl"

    @property
    def own_text(self) -> Path:
        """What the base model wrote by itself, by which it is found out what the run forgot."""
        return self.root / "own_text.jsonl"

    @property
    def report(self) -> Path:
        """The outcome, to read."""
        return self.root / "report.md"

    @property
    def history_png(self) -> Path:
        return self.root / "training_history.png"

    @property
    def train_log(self) -> Path:
        return self.root / "train.log"

    @property
    def dropped(self) -> Path:
        return self.root / "dropped.jsonl"

    @property
    def progress(self) -> Path:
        """Step, losses and time left, written about once a second for other programs."""
        return self.root / "status.json"

    @property
    def duration(self) -> Path:
        """How long the run was predicted to take, and how long it took."""
        return self.root / "duration.json"

    @property
    def requests(self) -> Path:
        """Files here are requests to the run while it trains, such as to stop."""
        return self.root / "requests"


@dataclass(frozen=True)
class ModelDir:
    """A model directory: weights, scripts, runs and the links to the current run."""

    root: Path

    @property
    def weights(self) -> Path:
        """The model and its tokenizer, as transformers reads them."""
        return self.root / "model"

    @property
    def info(self) -> Path:
        return self.root / "model_info.json"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def lora(self) -> Path:
        """Link to the current run's adapter: what start.sh loads."""
        return self.root / "lora"

    @classmethod
    def find(cls, path: str | Path | None) -> ModelDir:
        """The installed model directory that `path` means: a folder, its `model` in it, the name of one below
        LLM_HOME/models, or the hub id that one was installed from.

        Raises UsageError when no path is given, and ModelError when there is no model or it is incomplete.
        """
        if not path:
            raise UsageError("Say which model, for example: --model-path ~/LLM/models/tiny")
        given = Path(path).expanduser()
        root = next((p for p in places(models_dir(), str(path)) if os.path.isdir(p)), None)
        if root is None:
            see = suggest(str(path), known_names()) or f"; see the installed models with: {program()} list"
            raise ModelError(not_installed(str(path), see) or f"There is no model directory at {given}{see}")
        found = cls(root.absolute())
        try:
            complete = found.info.is_file() and (found.weights / "config.json").is_file()
        except PermissionError:
            raise ModelError(f"{short_path(root)} cannot be read; {allow(root)}") from None
        if not complete:
            raise ModelError(_incomplete(found))
        return found

    @property
    def typed(self) -> str:
        """What names this model on a command line: its name where that is enough."""
        return quoted(self.root.name) if self.root.parent == models_dir() else typed(self.root)

    def new_run(self, mode: str, now: datetime) -> Run:
        """Make a new run folder, `<time>-<mode>`; a second one in the same second gets a number."""
        return Run(_new_folder(self.runs, f"{now:%Y%m%d-%H%M%S}-{mode}", "runs"))

    @property
    def evals(self) -> Path:
        """What `eval` found, a folder for each time."""
        return self.root / "evals"

    def new_eval(self, now: datetime) -> Path:
        """Make a new folder for an evaluation, `<time>`; a second one in the same second gets a number."""
        return _new_folder(self.evals, f"{now:%Y%m%d-%H%M%S}", "evaluations")

    def require_writable(self) -> None:
        """Raise TrainingError where a run, or the links to it, could not be written."""
        closed = next((p for p in (self.root, self.runs) if p.exists() and not changeable(p)), None)
        if closed:
            raise TrainingError(
                f"{short_path(closed)} cannot be written to, so no run can be kept there; {allow(self.root)}"
            )

    def run_links(self, run: Run) -> dict[Path, Path]:
        """The links in this directory, and what each points to once `run` is the current one."""
        return {
            self.root / "checkpoints": run.checkpoints,
            self.root / "training_history.png": run.history_png,
            self.lora: run.adapter,
        }

    @property
    def lock(self) -> Path:
        """Locked by the training that is running here, and names it."""
        return self.root / ".training.lock"

    @property
    def lock_gate(self) -> Path:
        """Locked for a moment by whoever takes `lock`, or looks whether it is taken."""
        return self.root / ".training.gate"

    def switch_to(self, run: Run) -> None:
        """Make `run` the current one: all links of `run_links`, `lora` last."""
        for link, target in self.run_links(run).items():
            switch_link(link, target)

    @property
    def tensorboard_link(self) -> Path:
        """logs/training, a link to all runs, so that TensorBoard shows them together."""
        return self.root / "logs" / "training"


def _new_folder(parent: Path, stem: str, what: str) -> Path:
    """A folder of this name that was not there before, with a number behind it where one was."""
    for number in range(1, 1000):
        root = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            root.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise unwritable(parent, error) from None
        return root
    raise ModelError(f"There are too many {what} named {stem} in {short_path(parent)}")


def _incomplete(found: ModelDir) -> str:
    """What is wrong with a folder that a model was looked for in, and how to get one there."""
    shown = short_path(found.root)
    if found.info.is_file():
        return f"{shown} has lost its model/ folder; download or copy it again with: {reinstall(found)}"
    return (
        f"{shown} is not an installed model (model_info.json or model/config.json is missing); "
        f"install it with: {program()} install {shlex.quote(str(found.root))}"
    )


def reinstall(found: ModelDir) -> str:
    """The command that gets the files of a model again."""
    return f"{program()} fix {found.typed} --reinstall"


def allow(folder: Path) -> str:
    """What to do about a folder whose rights are in the way, as the end of a sentence."""
    return f"allow it, for example with: chmod -R u+rwX {typed(folder)}"
