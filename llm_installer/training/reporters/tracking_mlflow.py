"""A run in MLflow, when asked for: --report-to mlflow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from llm_installer.core.hints import pip
from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.core.text import without_password
from llm_installer.training.reporters.protocol import Event
from llm_installer.training.reporters.values import evaluation_values, peak_memory, step_values

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

DEFAULT_EXPERIMENT = "llm-installer"
OWN_ID = "llm_installer.run"
"""The tag by which a resumed run finds itself."""
MOST_METRICS = 1000
"""Metrics in one call, by MLflow's limit."""
FLUSH_SECONDS = 5.0
DEFAULTS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""Off by default: reports of use to MLflow's makers, and waiting minutes for a server that does not answer."""


class MlflowReporter:
    """Logs every number, many at a time. MLflow's own variables, such as MLFLOW_TRACKING_URI, apply; where nothing
    names a place, it is a folder beside the runs."""

    def __init__(
        self, header: RunHeader, config: Mapping[str, object], tracking_uri: str | None, experiment: str | None
    ) -> None:
        self._header, self._config = header, config
        self._uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or own_folder(header)
        self._experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
        self._client: MlflowClient | None = None
        self._id = ""
        self._points: list[Metric] = []
        self._flushed = time.monotonic()

    def on_start(self, header: RunHeader) -> None:
        """Create the run there, or resume it."""
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        if "://" not in self._uri or self._uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        with _errors_are_ours():
            from mlflow.entities import Param
            from mlflow.tracking import MlflowClient

            client = self._client = MlflowClient(tracking_uri=self._uri)
            known = client.get_experiment_by_name(self._experiment)
            experiment = known.experiment_id if known else client.create_experiment(self._experiment)
            past = client.search_runs([experiment], f"tags.`{OWN_ID}` = '{header.run.id}'") if header.start_step else []
            if past:
                self._id = past[0].info.run_id
                client.update_run(self._id, status="RUNNING")
                return
            name = os.environ.get("MLFLOW_RUN_NAME") or header.run.id
            self._id = client.create_run(experiment, tags={OWN_ID: header.run.id}, run_name=name).info.run_id
            config = {"model": header.model, "method": header.method, **self._config}
            client.log_batch(self._id, params=[Param(key, str(value)[:500]) for key, value in config.items()])

    def on_step(self, report: StepReport) -> None:
        """Collect one point of each curve, and send them now and then."""
        self._add(step_values(report), report.step)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """Send all points, with both losses and peak memory."""
        self._add(evaluation_values(evaluation) | peak_memory(), evaluation.step)
        self._flush()

    def on_event(self, event: Event, state: RunState) -> None:
        """Before a checkpoint, everything until then is sent."""
        if event == "save":
            self._flush()

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Record how it ended."""
        if self._client is None:
            return
        self._flush()
        with _errors_are_ours():
            self._client.set_tag(self._id, "stop_reason", state.stop_reason)
            self._client.set_terminated(self._id, "FINISHED" if result else "FAILED")

    def on_note(self, text: str) -> None:
        """Notes are in train.log."""

    def _add(self, values: dict[str, float], step: int) -> None:
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._points += [Metric(key, value, now, step) for key, value in values.items()]

    def _flush(self) -> None:
        points, self._points = self._points, []
        self._flushed = time.monotonic()
        if self._client is None:
            return
        with _errors_are_ours():
            for start in range(0, len(points), MOST_METRICS):
                self._client.log_batch(self._id, metrics=points[start : start + MOST_METRICS])


def own_folder(header: RunHeader) -> str:
    """Where MLflow's files of this model are unless the user names another place."""
    return (header.model_dir.root / "logs" / "mlflow").as_uri()


@contextlib.contextmanager
def _errors_are_ours() -> Iterator[None]:
    """Turn what MLflow raises into OSError, which turns a reporter off."""
    try:
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        missing = (error.name or "mlflow").partition(".")[0]
        raise OSError(f"{missing} is not installed; install it with: {pip('mlflow-skinny')}") from None
    try:
        yield
    except MlflowException as error:
        raise OSError(without_password(" ".join(str(error).split()))) from None
