"""Which services a run is shown on: the names that --report-to takes, and the options that imply one."""

from __future__ import annotations

from llm_installer.core.errors import UsageError
from llm_installer.planning.options import Options

NAMES = ("wandb", "mlflow")
IMPLIES = {
    "wandb_project": "wandb",
    "wandb_entity": "wandb",
    "mlflow_tracking_uri": "mlflow",
    "mlflow_experiment_name": "mlflow",
}
"""Options that make sense only with one tracker, and so imply it."""


def asked(options: Options) -> list[str]:
    """The trackers that the user asked for. Raises UsageError for an unknown name."""
    names = [name.strip() for name in (options.report_to or "").split(",")]
    names += [tracker for option, tracker in IMPLIES.items() if getattr(options, option)]
    found = [name for name in dict.fromkeys(names) if name]
    if unknown := [name for name in found if name not in NAMES]:
        raise UsageError(f"--report-to does not know {unknown[0]!r}; choose from: {', '.join(NAMES)}")
    return found
