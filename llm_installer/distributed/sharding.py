"""A base that no single device holds: each process keeps a part of every decoder layer, and all lend it in turn.

Only frozen weights are parted. Adapters stay whole everywhere and are summed as without sharding, so that optimizer,
checkpoints and the published adapter are the same files either way. Of a base in 4 bits the packed weights are parted;
their scales, a thirtieth of it, stay whole.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from llm_installer.core.errors import ModelError
from llm_installer.distributed import processes
from llm_installer.training.fast.quantised import four_bits


def shard_base(model: PeftModel, kind: str) -> None:
    """Part the frozen weights of the decoder layers over all processes, layer by layer, on devices of this kind.

    The rest of the model goes whole to this process's own. Raises ModelError for a model without such layers.
    """
    layers = decoder_layers(model)
    own = {p for p in model.parameters() if p.requires_grad}
    mesh = init_device_mesh(kind, (processes.count(),))
    for module in model.modules():
        if four_bits(module):
            _as_plain_numbers(module)
    for layer in layers:
        kinds = {p.dtype for p in layer.parameters() if p not in own}
        if len(kinds) > 1:
            raise ModelError(
                f"The layers of this model mix {' and '.join(sorted(map(str, kinds)))}, so they cannot be parted over "
                "several GPUs; choose a smaller model, or GPUs that hold it whole"
            )
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=own)
    if kind != "cpu":
        _move_the_rest(model, processes.device_of(kind))


def decoder_layers(model: PeftModel) -> nn.ModuleList:
    """The blocks of the language model."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    found = max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()), default=None)
    if found is None:
        raise ModelError("This model has no list of layers, so it cannot be parted over several GPUs")
    return found


def bytes_here(module: nn.Module) -> int:
    """Bytes of frozen weights that this process holds."""
    held = (p for p in module.parameters() if not p.requires_grad)
    whole = (p.to_local() if isinstance(p, DTensor) else p for p in held)
    return sum(p.numel() * p.element_size() for p in whole)


def _as_plain_numbers(layer: Any) -> None:
    """Let a 4-bit layer hold its packed bytes as a plain parameter, which can be parted.

    What they mean stays with the layer: bitsandbytes finds it there at each forward pass. The bytes pass for numbers of
    the layer's own type, for not every torch parts parameters that are no fractions.
    """
    layer.quant_state = layer.weight.quant_state
    packed = layer.weight.data.reshape(-1)
    if packed.nbytes % layer.compute_dtype.itemsize == 0:
        packed = packed.view(layer.compute_dtype)
    layer.quant_storage = packed.dtype
    layer.weight = nn.Parameter(packed.view(-1, 1), requires_grad=False)


def _move_the_rest(model: PeftModel, device: str) -> None:
    for module in model.modules():
        if four_bits(module):
            module.quant_state.to(device)
        for parameter in module.parameters(recurse=False):
            if not isinstance(parameter, DTensor):
                parameter.data = parameter.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            if isinstance(buffer, torch.Tensor):
                module._buffers[name] = buffer.to(device)
