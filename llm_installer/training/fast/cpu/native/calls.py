"""How PyTorch's tensors come to the kernels in C. Delete with functions.py and attention.py."""

from __future__ import annotations

import torch
from torch import Tensor

from llm_installer.training.fast.cpu.native.library import library


def own(tensor: Tensor) -> Tensor:
    """The tensor, if the kernels can take it."""
    if tensor.dtype != torch.bfloat16 or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise TypeError(f"the kernels take bfloat16 on the CPU, not {tensor.dtype} on {tensor.device.type}")
    return tensor


def call(name: str, *given: object) -> int:
    """Call a kernel on as many threads as PyTorch has here: of tensors it gets the addresses."""
    made, why = library()
    if made is None:
        raise RuntimeError(why)
    made.omp_set_num_threads(torch.get_num_threads())  # its OpenMP may not be the one that came with PyTorch
    return int(getattr(made, name)(*(g.data_ptr() if isinstance(g, Tensor) else g for g in given)))
