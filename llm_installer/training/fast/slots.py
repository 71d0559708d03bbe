"""A micro-batch in tensors that are made once: each is written into them, and none changes a shape.

All lie in one buffer on the device, which is filled by one copy. On a GPU that copy comes from pinned memory, of which
there are two, so that one can be written while the other is read. Delete with cuda/graphs.py.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llm_installer.data.batches import Batch
from llm_installer.data.buckets import Bucket
from llm_installer.training.fast.cross_entropy import IGNORED

ALIGNED = 2
"""Slots begin at multiples of so many numbers of 8 bytes: kernels read 16 bytes at once."""
TURNS = 2
"""Pinned buffers of a GPU."""
Numbers = npt.NDArray[np.int64]


class Slots:
    """The tensors of one bucket, and how a batch comes into them."""

    def __init__(self, bucket: Bucket, device: torch.device | str) -> None:
        self.bucket = bucket
        rows, packed = max(1, bucket.rows), not bucket.rows
        sizes = {
            "ids": bucket.tokens,
            "places": bucket.tokens * packed,
            "bounds": (bucket.documents + 2) // 2 * packed,
            "positions": bucket.supervised,
            "targets": bucket.supervised,
            "learned": 1,
        }
        starts = list(accumulate((-(-size // ALIGNED) * ALIGNED for size in sizes.values()), initial=0))
        self._spans = {name: slice(at, at + size) for (name, size), at in zip(sizes.items(), starts, strict=False)}
        cuda = torch.device(device).type == "cuda"
        self._buffer = torch.zeros(starts[-1], dtype=torch.long, device=device)
        self._hosts = [torch.zeros(starts[-1], dtype=torch.long).pin_memory() for _ in range(TURNS * cuda)]
        self._copied = [torch.cuda.Event() for _ in self._hosts]  # type: ignore[no-untyped-call]
        self._turn = 0
        part = {name: self._buffer[span] for name, span in self._spans.items()}
        self.ids = part["ids"].view(rows, -1)
        """[rows, length]; [1, tokens] where documents are packed."""
        self.places = part["places"].view(1, -1)
        """Where each token stands in its document; empty where rows are padded."""
        self.bounds = part["bounds"].view(torch.int32)[: bucket.documents + 1]
        """Where documents begin, and the end of the last; unused ones are empty and stand at the end."""
        self.positions = part["positions"]
        """What is supervised; unused ones are the position past the last token."""
        self.targets = part["targets"]
        """The token that follows each; IGNORED for unused ones."""
        self.learned = part["learned"].view(torch.float32)[0]
        """Supervised tokens of the whole step, by which the loss is divided."""

    def fill(self, batch: Batch, supervised: int) -> None:
        """Write a batch, which this bucket must hold, of a step of so many supervised tokens."""
        if not self._hosts:
            self._write(self._buffer.numpy(), batch, supervised)
            return
        self._turn = (self._turn + 1) % TURNS
        host, copied = self._hosts[self._turn], self._copied[self._turn]
        copied.synchronize()
        self._write(host.numpy(), batch, supervised)
        self._buffer.copy_(host, non_blocking=True)
        copied.record()

    def _write(self, numbers: Numbers, batch: Batch, supervised: int) -> None:
        bucket, slot = self.bucket, {name: numbers[span] for name, span in self._spans.items()}
        rows, length = batch.ids.shape
        whole = slot["ids"].reshape(max(1, bucket.rows), bucket.length)
        whole[rows:], whole[:rows, length:] = 0, 0
        whole[:rows, :length] = batch.ids
        count = len(batch.targets)
        slot["positions"][:count] = batch.positions // length * bucket.length + batch.positions % length
        slot["positions"][count:] = bucket.tokens
        slot["targets"][:count] = batch.targets
        slot["targets"][count:] = IGNORED
        slot["learned"].view(np.float32)[0] = supervised
        if not bucket.rows:
            lengths = [*batch.documents, *bucket.padding(length)]
            slot["places"][:] = np.concatenate([np.arange(each) for each in lengths])
            bounds = slot["bounds"].view(np.int32)
            bounds[: len(lengths) + 1] = [0, *accumulate(lengths)]
            bounds[len(lengths) + 1 :] = bucket.length


def document_mask(bounds: Tensor, tokens: int) -> Tensor:
    """Which tokens each token sees, [tokens, tokens], from the bounds alone: for attention that does not read them."""
    places = torch.arange(tokens, device=bounds.device)
    owner = torch.bucketize(places, bounds[1:], right=True)  # documents without tokens own none
    seen: Tensor = (owner[:, None] == owner) & (places[:, None] >= places)
    return seen
