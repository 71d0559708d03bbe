"""What an evaluation found. Plain values: nothing here loads a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llm_installer.evals.metrics import METRICS

DIFFERENT, SAME, FEW = "different", "same", "too few"
"""What a comparison may say: a difference is real, the rows could show none, or they are too few to tell."""
FEWEST = 30
"""Prompts below which nothing is said about a difference."""


@dataclass(frozen=True)
class Interval:
    """Between which values a number lies, 95% sure."""

    low: float
    high: float


@dataclass(frozen=True)
class Column:
    """One system's numbers."""

    name: str
    adapter: str
    """Which adapter was active, in words; empty for the base alone."""
    scores: dict[str, float]
    """By a name of METRICS."""
    intervals: dict[str, Interval]
    """95% intervals of those that are means over rows."""
    answered: int = 0
    """Rows that were answered."""
    cut: int = 0
    """Answers that were cut at the longest length."""
    tokens: int = 0
    """Tokens that the loss is the mean of."""


@dataclass(frozen=True)
class Difference:
    """How two systems differ in one metric, and whether that is real."""

    metric: str
    better: str
    """The one with the better number."""
    worse: str
    by: float
    """How much better, at least 0, in the metric's own unit."""
    interval: Interval
    """Where that difference lies, 95% sure."""
    p: float
    """Two-sided, by the bootstrap."""
    adjusted: float
    """The same after Holm's correction for several comparisons."""
    prompts: int
    """Different prompts that were compared."""
    rows: int
    smallest: float
    """The smallest difference that these rows would have shown: two standard errors."""
    compared: int = 1
    """How many pairs were compared in this metric."""

    @property
    def verdict(self) -> str:
        """DIFFERENT, SAME or FEW."""
        if self.prompts < FEWEST:
            return FEW
        return DIFFERENT if self.interval.low > 0 and self.adjusted <= 0.05 else SAME

    def __str__(self) -> str:
        metric = METRICS[self.metric]

        def shown(value: float) -> str:
            return f"{value * metric.scale:.3g}"

        if self.verdict == FEW:
            return (
                f"{self.better} and {self.worse}: too few rows to tell in {metric.unit} "
                f"({self.prompts} different prompts; {FEWEST} are needed)"
            )
        if self.verdict == DIFFERENT:
            low, high = shown(self.interval.low), shown(self.interval.high)
            return (
                f"{self.better} is better than {self.worse} by {shown(self.by)} {metric.unit} "
                f"(95% interval: {low} to {high})"
            )
        if not self.by and not self.smallest:
            return f"{self.better} and {self.worse}: the same in each of {self.rows:,} rows ({metric.title})"
        held = "" if self.interval.low <= 0 else f" once {self.compared} comparisons are allowed for"
        return (
            f"{self.better} and {self.worse}: no difference that {self.rows:,} rows could show{held}; "
            f"they would have shown one of {shown(self.smallest)} {metric.unit}"
        )


@dataclass(frozen=True)
class Flip:
    """A row that one system has right and the other wrong."""

    origin: str
    prompt: str
    expected: str
    before: str
    """What the first system of the pair said or chose."""
    after: str


@dataclass(frozen=True)
class Flips:
    """The rows whose answer turned right or wrong from one system to another."""

    first: str
    second: str
    gained: tuple[Flip, ...]
    """Wrong with the first, right with the second."""
    lost: tuple[Flip, ...]


@dataclass(frozen=True)
class Group:
    """One file, or one value of a source column: its rows, and each system's numbers on them."""

    name: str
    rows: int
    scores: dict[str, dict[str, float]]
    """By system, then by a name of METRICS."""


@dataclass(frozen=True)
class EvalResult:
    """Everything that an evaluation found, and where it is written."""

    folder: Path
    """Holds eval.json, report.md, rows.jsonl and eval.png."""
    model: str
    data: str
    rows: int
    columns: tuple[Column, ...]
    differences: tuple[Difference, ...]
    first_prompt: str
    """What the model gets for the first row, special tokens and all; empty where no row has a prompt."""
    groups: tuple[Group, ...] = ()
    flips: tuple[Flips, ...] = ()
    notes: tuple[str, ...] = ()
    tasks: dict[str, dict[str, float]] = field(default_factory=dict)
    """What lm-eval found, by system, then by task and metric."""

    @property
    def metrics(self) -> list[str]:
        """The names of METRICS that any system has a number of, in order."""
        return [name for name in METRICS if any(name in column.scores for column in self.columns)]

    @property
    def headlines(self) -> list[Difference]:
        """The comparisons that are said in a sentence."""
        return [one for one in self.differences if METRICS[one.metric].headline]
