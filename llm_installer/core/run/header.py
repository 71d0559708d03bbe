"""What is known about a run before its first step, for whoever reports it."""

from __future__ import annotations

from dataclasses import dataclass, field

from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.forecast import Forecast
from llm_installer.core.state import RunState


@dataclass(frozen=True)
class RunHeader:
    """The facts about a run that reporters may show."""

    model: str
    method: str
    mode: str
    run: Run
    model_dir: ModelDir
    total_steps: int
    """Where the run ends unless something stops it earlier; 0 when only a stop rule or the user ends it."""
    epochs: float
    patience: int
    """Evaluations without improvement that end the run; 0 when that is not a reason to stop."""
    perplexity: bool
    """Show exp(loss) too, as is usual for plain text."""
    rows: int
    validation_rows: int
    start_step: int = 0
    """Steps that earlier sessions took: above 0 when a run resumes."""
    before: RunState = field(default_factory=RunState)
    """The state that earlier sessions left, with which the loop goes on."""
    forecast: Forecast | None = None
    """How long it will take; None where nothing was timed."""
