"""Services that show runs to others, by the names that --report-to takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm_installer.core.run.header import RunHeader
from llm_installer.planning.options import Options
from llm_installer.planning.trackers import asked
from llm_installer.training.reporters.protocol import Reporter
from llm_installer.training.reporters.tracking_mlflow import MlflowReporter
from llm_installer.training.reporters.tracking_wandb import WandbReporter

Config = Mapping[str, object]

TRACKERS: Mapping[str, Callable[[RunHeader, Config, Options], Reporter]] = {
    "wandb": lambda header, config, options: WandbReporter(header, config, options.wandb_project, options.wandb_entity),
    "mlflow": lambda header, config, options: MlflowReporter(
        header, config, options.mlflow_tracking_uri, options.mlflow_experiment_name
    ),
}
"""Each of planning.trackers.NAMES -> how to make one."""


def trackers(header: RunHeader, config: Config, options: Options) -> dict[str, Reporter]:
    """The trackers that the user asked for, by name."""
    return {name: TRACKERS[name](header, config, options) for name in asked(options)}
