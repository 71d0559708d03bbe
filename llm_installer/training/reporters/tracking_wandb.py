"""A run on Weights & Biases, when asked for: --report-to wandb."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from llm_installer.core.hints import pip
from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters.values import evaluation_values, peak_memory, step_values

if TYPE_CHECKING:
    import wandb

DEFAULT_PROJECT = "llm-installer"
DEFAULTS = {"WANDB_ERROR_REPORTING": "false", "WANDB_INIT_TIMEOUT": "30"}
"""Off by default: reports of crashes to W&B, and a long wait for a server that does not answer."""


class WandbReporter:
    """Sends every number; wandb's own files are in the run's folder. Its own variables, such as WANDB_MODE,
    WANDB_ENTITY and WANDB_NAME, apply."""

    def __init__(
        self, header: RunHeader, config: Mapping[str, object], project: str | None, entity: str | None = None
    ) -> None:
        self._header, self._config, self._project, self._entity = header, config, project, entity
        self._run: wandb.Run | None = None

    @property
    def url(self) -> str:
        """The page of the run; empty where it is offline."""
        return "" if self._run is None or self._run.offline else self._run.url or ""

    def on_start(self, header: RunHeader) -> None:
        """Create the run there, or resume it by its id."""
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        with _errors_are_ours():
            import wandb

            self._run = wandb.init(
                project=self._project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT,
                entity=self._entity or os.environ.get("WANDB_ENTITY"),
                name=os.environ.get("WANDB_NAME") or header.run.id,
                id=os.environ.get("WANDB_RUN_ID") or header.run.id,
                resume="allow",
                dir=os.environ.get("WANDB_DIR") or str(header.run.root),
                config={"model": header.model, "method": header.method, **self._config},
                settings=wandb.Settings(silent=True, console="off"),  # the terminal belongs to the terminal reporter
            )

    def on_step(self, report: StepReport) -> None:
        """One point of each curve."""
        self._log(step_values(report), report.step)

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """Both losses and peak memory."""
        self._log(evaluation_values(evaluation) | peak_memory(), evaluation.step)

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Record how it ended, and wait until everything is sent."""
        if self._run is None:
            return
        with _errors_are_ours():
            self._run.summary.update({"stop_reason": state.stop_reason, "best_step": state.best_step})
            self._run.summary.update({"base_loss": state.base_loss, "best_loss": state.best_loss})
            self._run.finish(exit_code=0 if result else 1)
        self._run = None

    def on_note(self, text: str) -> None:
        """Notes are in train.log."""

    def _log(self, values: dict[str, float], step: int) -> None:
        if self._run is not None:
            with _errors_are_ours():
                self._run.log(values, step=step)


@contextlib.contextmanager
def _errors_are_ours() -> Iterator[None]:
    """Turn what wandb raises into OSError, which turns a reporter off."""
    try:
        import wandb
    except ImportError as error:
        missing = (error.name or "wandb").partition(".")[0]
        raise OSError(f"{missing} is not installed; install it with: {pip('wandb')}") from None
    try:
        yield
    except wandb.Error as error:
        raise OSError(" ".join(str(error).split())) from None
