"""The name of every file and folder, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from llm_installer.core.errors import ModelError


def llm_home() -> Path:
    """LLM_HOME, or ~/LLM."""
    return Path(os.environ.get("LLM_HOME") or Path.home() / "LLM").expanduser().absolute()


def models_dir() -> Path:
    """Where model directories are made."""
    return llm_home() / "models"


def cache_dir() -> Path:
    """Where downloads and encoded datasets are kept; safe to delete."""
    return llm_home() / "cache"


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
        """What was asked, and how the run stands."""
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
    def report(self) -> Path:
        """What came of it, to read."""
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
        """Where the run is, about once a second, for other programs."""
        return self.root / "status.json"

    @property
    def requests(self) -> Path:
        """Files here ask something of the run while it goes on."""
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
    def find(cls, path: str | Path) -> ModelDir:
        """The installed model directory at `path` (a folder, or the name of one below LLM_HOME/models).

        Raises ModelError when there is none or it is incomplete.
        """
        given = Path(path).expanduser()
        root = next((p for p in (given, models_dir() / str(path).replace("/", "_")) if p.is_dir()), None)
        if root is None:
            raise ModelError(f"There is no model directory at {given}; see what is installed with: llm-installer list")
        found = cls(root.absolute())
        if not found.info.is_file() or not (found.weights / "config.json").is_file():
            raise ModelError(
                f"{root} is not an installed model (model_info.json or model/config.json is missing); "
                f"install it with: llm-installer install {root}"
            )
        return found

    def new_run(self, mode: str, now: datetime) -> Run:
        """Make a fresh run folder, `<time>-<mode>`; a second one in the same second gets a number."""
        stem = f"{now:%Y%m%d-%H%M%S}-{mode}"
        for number in range(1, 1000):
            root = self.runs / (stem if number == 1 else f"{stem}-{number}")
            try:
                root.mkdir(parents=True)
            except FileExistsError:
                continue
            return Run(root)
        raise ModelError(f"Too many runs named {stem} in {self.runs}")

    def run_links(self, run: Run) -> dict[Path, Path]:
        """The promised names and what each points to once `run` is the current one."""
        return {
            self.root / "checkpoints": run.checkpoints,
            self.root / "training_history.png": run.history_png,
            self.lora: run.adapter,
        }

    @property
    def lock(self) -> Path:
        """Held by the training that goes on here, and says which one that is."""
        return self.root / ".training.lock"

    def switch_to(self, run: Run) -> None:
        """Make `run` the current one: the links that the guide promises, `lora` last."""
        for link, target in self.run_links(run).items():
            switch_link(link, target)

    @property
    def tensorboard_link(self) -> Path:
        """logs/training, a link to all runs, so that TensorBoard shows them side by side."""
        return self.root / "logs" / "training"


def switch_link(link: Path, target: Path) -> None:
    """Point `link` at `target` by one rename, so that no reader ever finds it missing. Relative, to survive a move."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(os.path.realpath(target), os.path.realpath(link.parent)))
    os.replace(fresh, link)
