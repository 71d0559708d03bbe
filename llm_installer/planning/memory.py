"""The memory formula: weights, adapters, activations and logits to bytes, for every way a run can be computed.

The counts are what autograd keeps for the backward pass, operation by operation, of a Llama-like block;
checked against the real thing by benchmarks/memory.py. See docs/concepts/memory.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_installer.core.model_info import ModelInfo
from llm_installer.core.quantisation import DOUBLE
from llm_installer.planning.compute_path import Path, path_of
from llm_installer.planning.layers import (
    adapted,
    adapter_parameters,
    distinct_inputs,
    float8_linears,
    is_gated,
    linears,
)
from llm_installer.planning.method import FLOAT8
from llm_installer.planning.optimizers import OPTIMIZERS
from llm_installer.planning.setup import Setup

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number of the base model."""
LINEAR_BYTES = {"": 0.0, "int8": 1.0, FLOAT8: 1.0, "nf4": DOUBLE}
"""Of one weight of a linear layer when it is quantised (4 bits and its double-quantised scale); "" when it is not."""
CAST = 3
"""Bytes of each number of a gradient beside it while a float8 product is made: times the weight's scales, and cast."""
HEADROOM = {"cpu": 0.8, "cuda": 0.92, "mps": 0.7}
"""Share of the free memory a plan may fill; the rest is for other programs."""
PROCESS = {"cpu": 490_000_000}
"""Python and the libraries, resident. A GPU's context is in use already when its free memory is asked for."""
KEPT_COPY = 4
"""The best weights so far are kept beside the trained ones, in float32."""


SCORES = {("cpu", "bfloat16"): 3.5 * 4 * 128}
"""By device and type, where attention goes by blocks of 128 queries: bytes for each token and head while one layer's
gradient is made. Weights, gradients and their change in float32, and a copy in 16 bits."""
UNEVEN = {"cpu": 0.15}
"""Added to the slack where rows are packed: documents of many lengths leave pieces of many sizes."""
FEWER = {("cpu", "bfloat16"): 0.15}
"""Taken off the slack where kernels compute what else would leave pieces between its operations."""
PLANNED = {("cpu", "float32"): ("llama", "mistral", "qwen2", "gemma")}
"""Families whose layers are planned ahead (training/fast/layer_choice.py), by device and type: they keep few, large
tensors."""
FEW_TENSORS = 0.2
"""Taken off the slack there: a Llama of 135 million parameters held 1.4 times the tensors that the formula counts in a
step of 500 tokens, and 1.1 times in one of 1,000 to 1,500."""
CHUNK_BYTES = {"cuda": 320 << 20}
"""Where a device takes larger chunks than the path says: logits, and those of them that are worked on in float32."""
CHUNK_ROWS = 1024
"""Most positions in a chunk of logits."""
TIGHT = 1.05
"""The same where layers are checkpointed: the C library is then told to give back each block at once."""
SCRATCH = {("cpu", 4): 9_000_000, ("cpu", 2): 33_000_000}
"""What matrix products hold beside the tensors, by device and bytes of an element."""


@dataclass(frozen=True)
class MemoryPlan:
    """Predicted bytes of a run, part by part."""

    process: int
    weights: int
    adapters: int
    """Adapters, gradients, optimizer state and the copy of the best."""
    workspace: int
    """What does not grow with the tokens: scratch memory, and the weights of one layer while they are unpacked."""
    layers: int
    per_layer: int
    """Kept for the backward pass, per token and layer."""
    boundary: int
    """The input of one layer, per token: all that a checkpointed layer keeps."""
    transient: int
    """Gradients in flight in the backward pass of one layer, per token."""
    logits: int
    """Last norm, logits and their gradient, per token of the micro-batch; chunks apart."""
    chunk: int
    """Logits of one chunk, where they are computed in chunks."""
    chunk_per_token: int
    """The same per token of a micro-batch that is smaller than a chunk."""
    chunk_stays: bool
    """Whether its memory is held through the backward pass, for the next chunk."""
    slack: float
    room: int
    """Bytes a run may add to what is in use already."""

    @property
    def fixed(self) -> int:
        """Bytes that are there whatever the micro-batch."""
        return self.weights + self.adapters + self.workspace

    def peak(self, tokens: int, checkpointed: int = 0) -> int:
        """Predicted peak bytes of the process with `tokens` in the micro-batch and the first `checkpointed` layers of
        the model checkpointed.

        The first ones, because their turn in the backward pass comes when the kept layers are gone again.
        """
        chunk = min(self.chunk, tokens * self.chunk_per_token)
        moments = (min(fixed, chunk) + int(tokens * each) for fixed, each in self._moments(checkpointed))
        return self.process + self.fixed + max(moments)

    def fitting_tokens(self, checkpointed: int = 0) -> int:
        """Tokens of a micro-batch that fit; 0 when not even the weights do."""
        room = self.room - self.fixed
        return max(0, min(int((room - fixed) / max(1.0, each)) for fixed, each in self._moments(checkpointed)))

    def _moments(self, checkpointed: int) -> tuple[tuple[int, float], ...]:
        """(bytes, bytes per token) at each moment that can be the highest: the loss; the backward pass of the last
        layer; and of the last checkpointed one."""
        slack = TIGHT if checkpointed else self.slack
        inputs = checkpointed * self.boundary
        kept = (self.layers - checkpointed) * self.per_layer + inputs
        again = inputs + self.per_layer + self.transient if checkpointed else 0
        held = self.chunk if self.chunk_stays else 0
        later = (held, slack * (kept + self.transient)), (held, slack * again)
        return (self.chunk, slack * (kept + self.logits)), *later


def plan_memory(setup: Setup, path: Path | None = None, scored: float = 1.0) -> MemoryPlan:
    """Predict the bytes of a LoRA run.

    `path` is how the layers are computed; what training takes where it is not given. `scored` is the share of
    positions that are supervised.
    """
    path, info, hardware = path or path_of(setup), setup.model, setup.hardware
    device, dtype, quantised = hardware.device, setup.precision, setup.method.quantised
    size = BYTES[dtype]
    row = info.vocab_size * size if path.chunk_bytes else 0
    # In float8 it is the transpose of a layer that is made for each product.
    each = 1 if quantised == FLOAT8 else size
    unpacked = max((n.inputs * n.outputs for n in linears(info)), default=0) * each if quantised else 0
    cast = CAST * info.intermediate_size if quantised == FLOAT8 else 0
    # Chunked: the chosen positions and their gradient. At once: float32 logits, their gradient, and the softmax's.
    per_scored = 3 * size * info.hidden_size if path.chunk_bytes else 12 * info.vocab_size
    scores = 0.0 if setup.packing or not path.blocks else SCORES.get((device, dtype), 0.0) * info.heads
    return MemoryPlan(
        process=PROCESS.get(device, 0),
        weights=weight_bytes(info, size, quantised),
        adapters=adapter_bytes(setup, path),
        workspace=unpacked + SCRATCH.get((device, size), 0),
        layers=info.layers,
        per_layer=activation_bytes(setup, path),
        boundary=size * info.hidden_size,
        transient=int(max(size * (2 * info.intermediate_size + 2 * info.hidden_size) + cast, scores)),
        logits=int(4 * info.hidden_size + scored * per_scored),
        chunk=min(CHUNK_BYTES.get(device, path.chunk_bytes), CHUNK_ROWS * row),
        chunk_per_token=int(scored * row),
        chunk_stays=device == "cpu",
        slack=_slack(setup, path),
        room=int(hardware.free_bytes * HEADROOM[device]),
    )


def _slack(setup: Setup, path: Path) -> float:
    device = setup.hardware.device
    spared = 0.0 if path.blocks else FEWER.get((device, setup.precision), 0.0)
    uneven = UNEVEN.get(device, 0.0) if setup.packing and not spared else 0.0
    plain = not path.copies and not setup.method.quantised
    planned = plain and setup.model.model_type in PLANNED.get((device, setup.precision), ())
    return path.slack.get(device, 1.0) + uneven - spared - (FEW_TENSORS if planned else 0.0)


def weight_bytes(info: ModelInfo, size: int, quantised: str = "") -> int:
    """The frozen base: quantised linear layers, everything else (embeddings, head, norms) in `size` bytes a number."""
    if not quantised:
        return info.parameters * size
    inside = sum(n.parameters for n in (float8_linears if quantised == FLOAT8 else linears)(info))
    # What was published quantised may have other scales.
    each = info.stored.bytes_each if info.stored.kept == quantised else LINEAR_BYTES[quantised]
    return int(inside * each + (info.parameters - inside) * size)


def adapter_bytes(setup: Setup, path: Path) -> int:
    """Float32 adapters and gradients, optimizer state, the best weights, and copies in the base's precision that fast
    paths compute with."""
    copy = 0 if path.copies else BYTES[setup.precision]
    each = 8 + OPTIMIZERS[setup.method.optimizer].state_bytes + KEPT_COPY + copy
    return int(adapter_parameters(setup.model, setup.adapters.rank, setup.adapters.targets) * each)


def activation_bytes(setup: Setup, path: Path) -> int:
    """Bytes that one layer keeps for the backward pass, per token."""
    info, size, rank, packed = setup.model, BYTES[setup.precision], setup.adapters.rank, setup.packing
    query, key_value = info.heads * info.head_dim, info.kv_heads * info.head_dim
    chosen, share = adapted(info, setup.adapters.targets), 1 / max(info.layers, 1)
    norms = 2 * (4 if path.wide_norms else size) * info.hidden_size
    # Of packed rows each document's output is kept, and their joined copy is what the next layer reads.
    attention = size * ((3 if packed else 2) * query + 2 * key_value) + 4 * info.heads
    activation = size * (path.gate if is_gated(info) else 2) * info.intermediate_size
    inputs = sum(n.inputs * n.count * share for n in chosen)
    outputs = (size + 4) * path.outputs * sum(n.outputs * n.count * share for n in chosen)
    if path.masks:
        read = (4 + path.masks) * inputs
    elif path.copies and size < 4:
        read = 4 * inputs
    else:
        read = size * distinct_inputs(chosen, share)
    if path.base_inputs and (path.masks or size < 4):
        read += size * distinct_inputs(linears(info), share)
    ranks = sum((4 if path.copies else size) * rank * n.count * share for n in chosen)
    return int(norms + attention + activation + read + outputs + ranks)
