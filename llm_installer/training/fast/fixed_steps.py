"""Steps whose micro-batches have fixed shapes: computed as they stand, or recorded and played back.

Delete with cuda/graphs.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llm_installer.data.batches import Batch
from llm_installer.training.fast.cuda.graphs import Capture, CudaCapture, Graphs
from llm_installer.training.fast.device_step import DeviceStep, suits
from llm_installer.training.fast.loss import SupervisedLoss
from llm_installer.training.fast.static_batches import StaticBatches, attention_is_static

STEP = "step"
"""The key of the optimizer step among what is recorded."""


@dataclass(frozen=True)
class Told:
    """What is known about a run's work beside the work itself."""

    meets: Mapping[Hashable, float]
    """How often each bucket will come."""
    say: Callable[[str], None]
    """Told why something is not recorded."""
    capture: Capture | None = None
    """What records in the place of CUDA graphs."""


class FixedSteps:
    """The parts of such a step. Without `device_step` the trainer itself clips and steps."""

    def __init__(
        self,
        static: StaticBatches,
        gradients: Callable[[], Sequence[Tensor]],
        device_step: DeviceStep | None = None,
        graphs: tuple[Graphs, Graphs] | None = None,
    ) -> None:
        """`graphs` are those of micro-batches and of the optimizer step; without them all is computed as it stands."""
        self.static, self.gradients, self.device_step = static, gradients, device_step
        self._of_batches: Graphs | None = graphs[0] if graphs else None
        self._of_steps: Graphs | None = graphs[1] if graphs else None
        static.replayer = self._of_batches

    def begin(self) -> Tensor:
        """Where the losses of a step add up: zero, and always the same tensor; so is the gradient of each parameter."""
        self.gradients()
        return self.static.total.zero_()

    def add(self, batch: Batch, supervised: int) -> bool:
        """Add gradient and loss of a batch; False, with nothing done, where it has another shape."""
        return self.static.add_gradients(batch, supervised)

    def decides(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the steps of this optimizer are decided on the device."""
        return self.device_step is not None and self.device_step.optimizer is optimizer

    def step(self) -> tuple[float, float, bool]:
        """(summed loss, norm before clipping, taken): clip, step, and zero the gradients."""
        assert self.device_step, "asked for only where it decides"
        work = self.device_step.work(self.static.total)
        if self._of_steps:
            self._of_steps.run(STEP, work)
        else:
            work()
        return self.device_step.read()

    def loaded(self) -> None:
        """The optimizer was given a state, and numbers for its rates."""
        if self.device_step:
            self.device_step.keep_rates_on_device()

    def refuse(self, why: str) -> None:
        """Play nothing back from here on."""
        if self._of_batches and self._of_steps:
            self._of_steps.refused = self._of_steps.refused or why  # said by the other
            self._of_batches.refuse(why)
            self._of_steps.refuse(why)

    @property
    def records(self) -> bool:
        """Whether anything may be recorded."""
        return self._of_batches is not None

    @property
    def recorded(self) -> int:
        """What is played back."""
        return sum(graphs.recorded for graphs in (self._of_batches, self._of_steps) if graphs)


def fixed_steps(
    static: StaticBatches,
    optimizer: torch.optim.Optimizer,
    gradients: Callable[[], Sequence[Tensor]],
    most: float,
    told: Told,
) -> FixedSteps:
    """Steps that are recorded where work comes again: as CUDA graphs, or by what is `told`; as they stand on other
    devices. `gradients` are those of all that is trained, clipped to a norm of `most`."""
    device_step = DeviceStep(optimizer, gradients, most) if suits(optimizer) else None
    capture = told.capture or (CudaCapture() if static.total.is_cuda else None)
    if capture is None:
        return FixedSteps(static, gradients, device_step)

    def changed() -> list[Tensor]:
        return [*gradients(), static.total]

    of_batches = Graphs(capture, changed, told.meets, told.say)
    of_steps = Graphs(
        capture, device_step.changed if device_step else changed, {STEP: math.inf}, told.say, whole=True
    )  # fmt: skip
    return FixedSteps(static, gradients, device_step, (of_batches, of_steps))


def refused(loss: object, packing: str, device: str) -> str:
    """Why shapes are not fixed with this loss and this attention for packed rows; empty where they can be."""
    if not isinstance(loss, SupervisedLoss):
        return "the loss is computed from all logits"
    if not attention_is_static(packing, device):
        return "attention for packed rows is not one operation of fixed shape"
    return ""
