"""The rows of a run: those it trains on, and the fixed ones on which both losses are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llm_installer.data.batches import sample
from llm_installer.data.encoding.row import Row
from llm_installer.data.mixing import Mix
from llm_installer.data.prepare import Given, Prepared
from llm_installer.planning.plan import Plan


@dataclass(frozen=True)
class TrainingData:
    """Encoded rows, and the fixed rows on which both losses are evaluated."""

    rows: Sequence[Row]
    train_slice: Sequence[Row]
    validation: Sequence[Row]
    mix: Mix | None = None
    """Which rows an epoch goes through, where it is not each once."""
    name: Callable[[int], str] = str
    """Where a row came from, as a user finds it: file and line."""

    @classmethod
    def of(cls, given: Given, prepared: Prepared, plan: Plan) -> TrainingData:
        """The rows of a planned run."""
        rows, evaluated, seed = prepared.train, plan.course.evaluation_rows, plan.seed
        return cls(
            rows=rows,
            train_slice=sample(rows, evaluated, seed),
            validation=sample(prepared.validation, evaluated, seed),
            mix=prepared.mix,
            name=lambda i: str(given.train[int(rows.source[i])].origin),
        )
