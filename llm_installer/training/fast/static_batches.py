"""Micro-batches of fixed shapes: what one of a bucket needs, each of it needs, operation by operation.

Nothing here depends on what is in a batch, and nothing asks the device: that is what can be recorded once and played
back (cuda/graphs.py). Without a recorder it is computed as it stands, which is how it runs and is tested on a CPU.
Delete with cuda/graphs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from llm_installer.data.batches import Batch
from llm_installer.data.buckets import Bucket, Need, fitting
from llm_installer.training.fast.document_attention import KERNEL, NAME, Device, Documents, packed_forward
from llm_installer.training.fast.loss import SupervisedLoss
from llm_installer.training.fast.mask_search import without_search
from llm_installer.training.fast.slots import Slots, document_mask


class Replayer(Protocol):
    """Computes work of which the same will come again, as recorded or as it stands."""

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do it."""
        ...


class StaticBatches:
    """The buckets of a run, with their slots and the sum of the losses."""

    def __init__(
        self,
        loss: SupervisedLoss,
        packing: str,
        buckets: Sequence[Bucket],
        device: Device,
        replayer: Replayer | None = None,
    ) -> None:
        self.loss, self.packing, self.buckets, self.device, self.replayer = loss, packing, buckets, device, replayer
        self.total = torch.zeros((), device=device)
        """The summed losses of the step so far; always the same tensor."""
        self._slots: dict[Bucket, Slots] = {}

    def add_gradients(self, batch: Batch, supervised: int) -> bool:
        """Add the gradient of a batch, divided by the step's supervised tokens, and its summed loss to `total`; False,
        and nothing is done, where no bucket holds it."""
        bucket = fitting(self.buckets, Need.of(batch))
        if bucket is None:
            return False
        slots = self._slots.get(bucket) or self._slots.setdefault(bucket, Slots(bucket, self.device))
        slots.fill(batch, supervised)

        def work() -> None:
            loss = self.loss_of(slots)
            torch.autograd.backward(loss / slots.learned)
            self.total.add_(loss.detach())

        if self.replayer:
            self.replayer.run(bucket, work)
        else:
            work()
        return True

    def loss_of(self, slots: Slots) -> Tensor:
        """The summed loss of what is in the slots."""
        bucket, documents, extra = slots.bucket, None, {}
        if not bucket.rows:
            masked = self.packing == NAME
            mask = document_mask(slots.bounds, bucket.length) if masked else None
            documents = Documents(slots.bounds, bucket.longest, (), mask)
            extra = {"position_ids": slots.places}
        with packed_forward(documents) as more, without_search():
            return self.loss.of_fixed_shape(slots.ids, slots.positions, slots.targets, {**extra, **more})


def attention_is_static(packing: str, device: str) -> bool:
    """Whether attention for documents is one operation of fixed shape; on a CPU a mask makes it so."""
    return packing not in (NAME, KERNEL) if device == "cuda" else packing in ("", NAME, KERNEL)
