"""Services that show runs to others, by the names that --report-to takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llm_installer.core.errors import UsageError
from llm_installer.planning.options import Options
from llm_installer.training.reporters.protocol import Reporter, RunHeader
from llm_installer.training.reporters.tracking_mlflow import MlflowReporter
from llm_installer.training.reporters.tracking_wandb import WandbReporter

Config = Mapping[str, object]

TRACKERS: Mapping[str, Callable[[RunHeader, Config, Options], Reporter]] = {
    "wandb": lambda header, config, options: WandbReporter(header, config, options.wandb_project),
    "mlflow": lambda header, config, options: MlflowReporter(
        header, config, options.mlflow_tracking_uri, options.mlflow_experiment_name
    ),
}
"""Name -> how to make one."""
IMPLIES = {"wandb_project": "wandb", "mlflow_tracking_uri": "mlflow", "mlflow_experiment_name": "mlflow"}
"""Options that mean nothing without a tracker, and so ask for it."""


def asked(options: Options) -> list[str]:
    """The trackers that are asked for. Raises UsageError for a name that is none."""
    names = [name.strip() for name in (options.report_to or "").split(",")]
    names += [tracker for option, tracker in IMPLIES.items() if getattr(options, option)]
    found = [name for name in dict.fromkeys(names) if name]
    if unknown := [name for name in found if name not in TRACKERS]:
        raise UsageError(f"--report-to knows no {unknown[0]!r}; choose from: {', '.join(TRACKERS)}")
    return found


def trackers(header: RunHeader, config: Config, options: Options) -> dict[str, Reporter]:
    """Those that are asked for, by name."""
    return {name: TRACKERS[name](header, config, options) for name in asked(options)}
