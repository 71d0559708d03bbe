"""The numbers of a run under the names by which TensorBoard, W&B and MLflow all show them.

All three sort by name: whatever is not a loss has a name that comes later.
"""

from __future__ import annotations

import sys

from llm_installer.core.hardware import GIB
from llm_installer.core.state import Evaluation, StepReport

CURVES = ("train", "validation")
"""Names of the curves that are drawn on one card."""


def step_values(report: StepReport) -> dict[str, float]:
    """What has a value at every step."""
    values = {
        "loss/train_step": report.loss,
        "optimizer/learning_rate": report.learning_rate,
        "optimizer/grad_norm": report.grad_norm,
        "progress/epoch": report.epoch,
    }
    if report.seconds > 0:
        values["tokens_per_second"] = report.tokens / report.seconds
    return values


def joined(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Both losses under one name, each in a curve of its own: they belong beside each other."""
    both = zip(CURVES, (evaluation.train_loss, evaluation.validation_loss), strict=True)
    return {curve: {"loss": loss} for curve, loss in both if loss is not None}


def evaluation_values(evaluation: Evaluation) -> dict[str, float]:
    """The losses on the two evaluation sets."""
    values = {"loss/train": evaluation.train_loss}
    if evaluation.validation_loss is not None:
        values["loss/validation"] = evaluation.validation_loss
    return values


def peak_memory() -> dict[str, float]:
    """Peak memory of this process so far, in GiB: resident, and on the CUDA device where it uses one."""
    values: dict[str, float] = {}
    if sys.platform != "win32":  # Python's library does not have this count there
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        values["memory/resident_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
    torch = sys.modules.get("torch")  # without it, this process uses no memory there
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        values["memory/cuda_gib"] = torch.cuda.max_memory_allocated() / GIB
    return values
