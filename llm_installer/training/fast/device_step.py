"""The optimizer step without a question to the device: whether it is taken, and by how much gradients are clipped.

The fused AdamW takes both as tensors, those that a gradient scaler would give it: `found_inf` leaves weights, averages
and step count as they are, `grad_scale` is what gradients are divided by. The learning rate is a tensor as well. So a
step can be recorded, and the program reads loss, norm and whether it was taken once, at its end.
Delete when torch's clip_grad_norm_ and AdamW do that for a training without a scaler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

SMALL = 1e-6
"""What torch adds to a norm before it divides by it."""


class _Scaled(Protocol):
    """What the fused kernels read of their optimizer."""

    grad_scale: Tensor
    found_inf: Tensor


class DeviceStep:
    """An AdamW that is fused, and what decides on its steps, on the device."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, gradients: Callable[[], Sequence[Tensor]], most: float
    ) -> None:
        """`gradients` are those of all that is trained, clipped together to a norm of `most`."""
        self.optimizer, self.gradients, self.most = optimizer, gradients, most
        device = optimizer.param_groups[0]["params"][0].device
        self.found_inf, self.grad_scale = torch.zeros((), device=device), torch.ones((), device=device)
        self.result = torch.zeros(3, device=device)
        """Summed loss, norm before clipping, and 1 where the step was not taken."""
        scaled = cast(_Scaled, optimizer)
        scaled.grad_scale, scaled.found_inf = self.grad_scale, self.found_inf
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self.keep_rates_on_device()

    def keep_rates_on_device(self) -> None:
        """Put the rates of all groups into tensors, always the same ones; again after a state was loaded, which has put
        numbers there."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate.fill_(float(group["lr"]))
            group["capturable"] = rate.is_cuda

    def changed(self) -> list[Tensor]:
        """All that a step changes; nothing while the optimizer remembers nothing, for then the next step makes more."""
        found: list[Tensor] = [*self.gradients(), self.result, self.found_inf, self.grad_scale]
        for parameter in (p for group in self.optimizer.param_groups for p in group["params"]):
            state = self.optimizer.state.get(parameter)
            if not state:
                return []
            found += [parameter, *(value for value in state.values() if isinstance(value, Tensor))]
        return found

    def work(self, total: Tensor) -> Callable[[], None]:
        """What a step does: clip, take it or leave it, note how it was, and zero the gradients in their place.

        `total` is the summed loss of the step. What hooks of the optimizer make of new weights belongs to it.
        """

        def step() -> None:
            gradients = list(self.gradients())
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            self.found_inf.copy_(~torch.isfinite(norm + total))
            self.grad_scale.copy_(((norm + SMALL) / self.most).clamp(min=1.0))
            self.result.copy_(torch.stack([total, norm, self.found_inf]))
            self.optimizer.step()
            torch._foreach_zero_(gradients)

        return step

    def read(self) -> tuple[float, float, bool]:
        """(summed loss, norm, taken) of the last step: this waits for it."""
        loss, norm, skipped = self.result.tolist()
        return loss, norm, not skipped


def suits(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer is one that decides on the device, where no gradient scaler does."""
    return isinstance(optimizer, torch.optim.AdamW) and bool(optimizer.defaults.get("fused"))
