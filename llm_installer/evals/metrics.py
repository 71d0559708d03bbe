"""METRICS: every number of an evaluation, one row each: what it is called, which way is better, and in which unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that each system has."""

    title: str
    """As tables show it."""
    unit: str = ""
    """Behind a difference, as in `0.12 nats per token`; empty where differences are not judged."""
    lower: bool = False
    """Whether less is better."""
    scale: float = 1.0
    """From the number to what is shown: 100 for shares, which are shown as points."""
    digits: int = 1
    headline: bool = False
    """Whether a sentence says whether the difference is real; of the others, the report does."""

    def shown(self, value: float) -> str:
        """The number as tables show it."""
        return f"{value * self.scale:,.{self.digits}f}"


def _points(title: str, of: str, headline: bool = False) -> Metric:
    return Metric(title, f"points of {of}", scale=100.0, headline=headline)


METRICS: dict[str, Metric] = {
    "loss": Metric("loss, nats per token", "nats per token", lower=True, digits=4, headline=True),
    "perplexity": Metric("perplexity", lower=True, digits=2),
    "exact": _points("exact match, %", "exact match"),
    "f1": _points("F1, %", "F1", headline=True),
    "rouge1": _points("ROUGE-1, %", "ROUGE-1"),
    "rouge2": _points("ROUGE-2, %", "ROUGE-2"),
    "rougeL": _points("ROUGE-L, %", "ROUGE-L"),
    "rougeL_unicode": _points("ROUGE-L of Unicode words, %", "ROUGE-L of Unicode words"),
    "bleu": Metric("BLEU"),
    "chrf": Metric("chrF"),
    "acc": _points("accuracy, %", "accuracy", headline=True),
    "acc_norm": _points("accuracy by characters, %", "accuracy by characters"),
    "acc_bytes": _points("accuracy by bytes, %", "accuracy by bytes"),
    "ended": Metric("answers that end, %", scale=100.0),
    "speed": Metric("tokens/s"),
}
"""Losses and accuracies of rows are ratios of sums over rows; BLEU and chrF are of all answers together."""
