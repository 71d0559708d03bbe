"""Products of float32 by way of bfloat16 for some, while threads beside them get all their digits.

oneDNN knows one setting for the whole process. It is switched for as long as somebody needs it so; who needs all digits
waits for them and keeps others from switching.
Delete when torch.bmm takes out_dtype=torch.float32 for bfloat16 on CPUs: in torch 2.13 only CUDA has it.
Then attention.py needs no setting, and nothing has to be guarded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, Protocol, TypeVar, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
PRODUCTS = {_aten.mm.default, _aten.bmm.default, _aten.addmm.default, _aten.baddbmm.default, _aten.addmm_.default,
            _aten.baddbmm_.default, _aten.mv.default, _aten.addmv.default}  # fmt: skip

Given = ParamSpec("Given")
Result = TypeVar("Result")


class _Setting(Protocol):
    """torch.backends.mkldnn.matmul, which torch's types do not know."""

    fp32_precision: str


_free = threading.Condition()
_users = 0
_before = ""
_known = threading.local()
"""Whether this thread is inside one of the two below."""


@contextmanager
def by_way_of_bfloat16() -> Iterator[None]:
    """Products of float32 lose what bfloat16 cannot hold; for numbers that come from bfloat16, nothing."""
    global _users, _before
    setting = cast(_Setting, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    with _free:
        _users += 1
        if _users == 1:
            _before, setting.fp32_precision = setting.fp32_precision, "bf16"
    try:
        with _inside():
            yield
    finally:
        with _free:
            _users -= 1
            if not _users:
                setting.fp32_precision = _before
                _free.notify_all()


def exactly(forward: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same function, run while nobody computes by way of bfloat16."""

    def alone(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with _free:
            _free.wait_for(lambda: not _users)
            with _inside():
                return forward(*args, **kwargs)

    return alone


class OtherProducts(TorchDispatchMode):
    """Watches for products of float32 that are inside neither of the two above."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: tuple[type, ...],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if func in PRODUCTS and not getattr(_known, "inside", False):
            tensors = (a for a in args if isinstance(a, torch.Tensor))
            self.found = self.found or any(t.dtype == torch.float32 for t in tensors)
        return func(*args, **(kwargs or {}))


@contextmanager
def _inside() -> Iterator[None]:
    _known.inside = True
    try:
        yield
    finally:
        _known.inside = False
