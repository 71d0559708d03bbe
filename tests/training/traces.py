"""What a computation consists of, operation by operation: to compare two, and to play one back as a CUDA graph does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ASKING = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique_consecutive", "_unique2"}
"""Operations whose result the program reads, or whose size depends on the numbers."""


class Recorder(TorchDispatchMode):
    """Each operation with the shapes, strides and types of its tensors and all its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        picks = name in ("index", "index_put_") and any(t is not None and t.dtype == torch.bool for t in args[1])
        if name in ASKING or picks:
            self.asked.append(name)
        self.calls.append(f"{func} {_said(args)} {_said(kwargs or {})}")
        return func(*args, **(kwargs or {}))


def _said(value: Any) -> Any:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)}/{value.stride()}/{value.dtype}"
    if isinstance(value, (list, tuple)):
        return [_said(each) for each in value]
    if isinstance(value, dict):
        return {name: _said(each) for name, each in value.items()}
    return repr(value)


class PlayedBack(TorchDispatchMode):
    """A CUDA graph on a CPU: the operations of some work, done again on the very tensors of the first time.

    Python does not run again: a number that was read, a copy that was made before, a tensor that another has taken the
    place of stay what they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ASKING:
            raise RuntimeError("operation not permitted when stream is capturing")
        found = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, found))
        return found

    def __call__(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, found in self.done:
                again = func(*args, **kwargs)
                for old, new in zip(tree_flatten(found)[0], tree_flatten(again)[0], strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class PlayingBack:
    """Records on a CPU, as cuda/graphs.py does on a GPU. `spoil` changes what was recorded, for tests."""

    def __init__(self, spoil: Callable[[PlayedBack], None] = lambda graph: None) -> None:
        self.recorded = 0
        self.spoil = spoil

    def warm(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = PlayedBack()
        with graph:
            work()
        self.spoil(graph)
        self.recorded += 1
        return graph


def detached(value: Any) -> Any:
    """The same without what autograd knows of its tensors."""
    return tree_map(lambda each: each.detach() if isinstance(each, Tensor) else each, value)
