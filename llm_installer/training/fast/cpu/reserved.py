"""Reserved memory within bounds: what a micro-batch frees stays for the next one, but no more than one needs.

Each micro-batch leaves small blocks behind between the large ones (such as what oneDNN remembers of a new shape), so
the next one finds no place of its size and takes new memory: without bounds a process holds several times what it uses.
Delete when PyTorch's allocator for CPUs caches blocks by size, as the one for CUDA does; in torch 2.13 it is malloc.
"""

from __future__ import annotations

from llm_installer.core.process_memory import resident_bytes
from llm_installer.training.fast.cpu.allocator import give_back_now


class ReservedMemory:
    """Watches what the process holds after each micro-batch and gives back what is beyond the usual."""

    SPARE = 1.7
    """Held at most, as a multiple of what one micro-batch has needed."""
    LITTLE = 64 << 20
    """Bytes that are not worth the page faults."""

    def __init__(self) -> None:
        give_back_now()
        self._floor, self._needed, self._tokens, self._fresh = resident_bytes(), 0.0, 0, True

    def micro_batch_done(self, tokens: int) -> None:
        """Nothing of a micro-batch of so many tokens is needed any longer.

        One that is larger than all before may need as much more as it is larger.
        """
        held = resident_bytes() - self._floor
        if self._fresh:
            self._needed, self._fresh = max(self._needed, held), False
        elif tokens > self._tokens > 0:
            self._needed = max(self._needed, min(held, self._needed * tokens / self._tokens))
        self._tokens = max(self._tokens, tokens)
        if held > max(self.LITTLE, self.SPARE * self._needed):
            give_back_now()
            self._floor, self._fresh = resident_bytes(), True
