"""The plan of a run: every value that was decided, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from llm_installer.core.examples import Task
from llm_installer.core.files import finite
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.state import RunState
from llm_installer.planning.course import Course
from llm_installer.planning.cuts import NOTHING_CUT, CutFacts
from llm_installer.planning.from_json import read_dataclass
from llm_installer.planning.growth import cycle_batch
from llm_installer.planning.method import PLAIN, Method
from llm_installer.planning.ranks import stage
from llm_installer.planning.schedule import rate_scale
from llm_installer.planning.setup import Adapters, Setup

SECOND_WARMUP = 5
"""Most steps of a second warm-up."""
FILE = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What will happen: every value chosen, each with its reason in `why`."""

    mode: str
    task: Task
    device: str
    precision: str
    lora_r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: tuple[str, ...]
    fan_in_fan_out: bool
    learning_rate: float
    """At its peak."""
    micro_batch_tokens: int
    """Most tokens, padding included, of one forward and backward pass; at least one row is taken."""
    micro_batch_rows: int
    max_seq_length: int
    course: Course
    seed: int
    order: str = "random"
    rank_steps: tuple[int, ...] = ()
    """Ranks that share the run equally, ascending to `lora_r`; none where the rank does not grow."""
    mix: tuple[tuple[str, float], ...] = ()
    """Share of each file in an epoch, where the user weighted them."""
    rows: int = 0
    """Rows of one epoch."""
    cycles: bool = False
    """Epochs are cycles: the batch grows from one to the next."""
    controller: str = "none"
    """A name of planning.controller.CONTROLLERS."""
    checkpointed_layers: int = 0
    """Layers whose activations are recomputed in the backward pass instead of kept."""
    predicted_peak_bytes: int = 0
    """Peak memory of the process, by the memory formula."""
    packing: bool = False
    """Several rows share a sequence without padding, where the model can take that."""
    graphs: bool = False
    """The work of a step is recorded as CUDA graphs where it comes again, and played back."""
    compiling: bool = False
    """The passes over memory between matrix products go through torch.compile, where there is a compiler."""
    fast: bool = True
    """Equal, faster paths may take the place of what PEFT and transformers compute (training/fast)."""
    kernels: bool = True
    """Kernels may be compiled or taken from a library for this machine."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    method: Method = PLAIN
    adapted: str = ""
    """How many layers get a LoRA, in words; their names are the reason. Empty until the model was looked at."""
    cut: CutFacts = NOTHING_CUT
    """What rows lose that are longer than `max_seq_length`."""
    why: dict[str, str] = field(default_factory=dict)
    """Name of a value -> the reason for it."""

    def batch_of(self, epoch: int) -> int:
        """Rows per planned step in the 0-based epoch."""
        first = self.course.effective_batch_size
        if not self.cycles:
            return first
        return cycle_batch(first, self.course.batch_multiplier, epoch, max(self.rows, 1))

    def learning_rate_at(self, state: RunState) -> float:
        """Learning rate of the step that `state.step` is about to be, or was."""
        course = self.course
        planned = rate_scale(max(1, state.done), course.warmup_steps, course.total_steps, course.schedule)
        return self.learning_rate * state.rate_scale * planned * self._second_warmup(state) * self._grown(state)

    def rank_at(self, done: int) -> int:
        """The rank of planned step `done`, counted from 1."""
        return stage(self.rank_steps, done, self.course.total_steps)[0] if self.rank_steps else self.lora_r

    def _grown(self, state: RunState) -> float:
        """A short warm-up after the rank has grown, for the same reason."""
        if self.rank_at(state.done) == self.rank_at(1):
            return 1.0
        begun = stage(self.rank_steps, state.done, self.course.total_steps)[1]
        return min(1.0, begun / (min(SECOND_WARMUP, self.course.warmup_steps) + 1))

    def _second_warmup(self, state: RunState) -> float:
        """A short second warm-up after going back: the first steps of an optimizer without memory go too far."""
        change = state.adjustments[-1] if state.adjustments else None
        steps = min(SECOND_WARMUP, self.course.warmup_steps)
        if change is None or not change.restore_best:
            return 1.0
        return min(1.0, max(1, state.step - change.step) / (steps + 1))

    def setup(self, info: ModelInfo, hardware: Hardware) -> Setup:
        """What this plan makes of a model on a machine, as memory and time depend on it."""
        return Setup(
            model=info,
            hardware=replace(hardware, compiler=hardware.compiler and self.kernels),
            precision=self.precision,
            adapters=Adapters(self.lora_r, self.lora_alpha, self.lora_dropout, self.target_modules),
            method=self.method,
            packing=self.packing,
            longest=self.max_seq_length,
            fast=self.fast,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Plan:
        """The plan that to_json wrote, or an earlier version, in which the fields of `course` were the plan's own.

        Raises TrainingError, which names the field, for values of the wrong type and for fields of a newer version.
        """
        if isinstance(values, Mapping) and "course" not in values:
            values = _nested(values)
        return read_dataclass(cls, values, FILE)

    def to_json(self) -> dict[str, object]:
        """The plan as plain values, for plan.json; what is infinite becomes null."""
        plain: dict[str, object] = finite(dataclasses.asdict(self))
        return plain


def flat(values: Mapping[str, object]) -> dict[str, object]:
    """The values of a plan.json by name, those of its course beside the others, in whichever form it is."""
    course = values.get("course")
    rest = {name: value for name, value in values.items() if name != "course"}
    return rest | (dict(course) if isinstance(course, Mapping) else {})


def _nested(values: Mapping[str, object]) -> dict[str, object]:
    names = {f.name for f in dataclasses.fields(Course)}
    course = {name: value for name, value in values.items() if name in names}
    return {**{name: value for name, value in values.items() if name not in names}, "course": course}
