"""A base that no single device holds: each process keeps a shard of every decoder layer, and all lend it in turn.

Only frozen weights are sharded. Adapters are complete everywhere and their gradients are summed as without sharding, so
that optimizer, checkpoints and the published adapter are the same files either way. Of a base in 4 bits the quantised
weights are sharded; their scales, a thirtieth of it, are not.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from peft import PeftModel
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from llm_installer.core.errors import ModelError
from llm_installer.distributed import processes
from llm_installer.models.quantise import is_four_bit


def shard_base(model: PeftModel, kind: str) -> None:
    """Shard the frozen weights of the decoder layers over all processes, layer by layer, on devices of this kind.

    The rest of the model goes to this process's own device. Raises ModelError for a model without such layers.
    """
    layers = decoder_layers(model)
    own = {p for p in model.parameters() if p.requires_grad}
    mesh = init_device_mesh(kind, (processes.count(),))
    for module in model.modules():
        if is_four_bit(module):
            _as_plain_numbers(cast(_FourBitLayer, module))
    for layer in layers:
        kinds = {p.dtype for p in layer.parameters() if p not in own}
        if len(kinds) > 1:
            raise ModelError(
                f"The layers of this model mix {' and '.join(sorted(map(str, kinds)))}, so they cannot be sharded over "
                "several GPUs; choose a smaller model, or GPUs that each hold all of it"
            )
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=own)
    if kind != "cpu":
        _move_the_rest(model, processes.device_of(kind))


def decoder_layers(model: PeftModel) -> nn.ModuleList:
    """The blocks of the language model."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    found = max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()), default=None)
    if found is None:
        raise ModelError("This model has no list of layers, so it cannot be sharded over several GPUs")
    return found


class _Quantised(Protocol):
    quant_state: object
    data: torch.Tensor


class _FourBitLayer(Protocol):
    """What is used of bitsandbytes' Linear4bit, which has no types of its own."""

    weight: nn.Parameter
    quant_state: object
    quant_storage: torch.dtype
    compute_dtype: torch.dtype


class _Movable(Protocol):
    def to(self, device: str) -> object: ...


def _as_plain_numbers(layer: _FourBitLayer) -> None:
    """Let a 4-bit layer hold its quantised bytes as a plain parameter, which can be sharded.

    What they mean stays with the layer: bitsandbytes finds it there at each forward pass. The bytes pass for numbers of
    the layer's own type, because fully_shard does not take integer parameters in every version of torch.
    Delete when bitsandbytes' Params4bit can be given to fully_shard as it is.
    """
    layer.quant_state = cast(_Quantised, layer.weight).quant_state
    stored = layer.weight.data.reshape(-1)
    if stored.nbytes % layer.compute_dtype.itemsize == 0:
        stored = stored.view(layer.compute_dtype)
    layer.quant_storage = stored.dtype
    layer.weight = nn.Parameter(stored.view(-1, 1), requires_grad=False)


def _move_the_rest(model: PeftModel, device: str) -> None:
    for module in model.modules():
        if is_four_bit(module):
            cast(_Movable, module.quant_state).to(device)
        for parameter in module.parameters(recurse=False):
            if not isinstance(parameter, DTensor):
                parameter.data = parameter.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            if isinstance(buffer, torch.Tensor):
                module._buffers[name] = buffer.to(device)
