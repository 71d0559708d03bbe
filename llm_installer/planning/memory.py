"""The memory formula: weights, adapters, activations and logits to bytes, for every way a run can be computed.

The counts are what autograd keeps for the backward pass, operation by operation, of a Llama-like block;
measured against the real thing by benchmarks/memory.py. See docs/memory.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llm_installer.core.handler import ALL_LINEAR
from llm_installer.core.model_info import Linear, ModelInfo
from llm_installer.planning.optimizers import OPTIMIZERS

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number of the base model."""
LINEAR_BYTES = {"": 0.0, "int8": 1.0, "nf4": 0.516}
"""Of one weight of a linear layer when it is quantised (4 bits and its double-quantised scale); "" when it is not."""
HEADROOM = {"cpu": 0.8, "cuda": 0.92, "mps": 0.7}
"""Share of the free memory a plan may fill; the rest is for other programs."""
PROCESS = {"cpu": 490_000_000}
"""Python and the libraries, resident. A GPU's context is in use already when its free memory is asked for."""
KEPT_COPY = 4
"""The best weights so far are kept beside the trained ones, in float32."""


@dataclass(frozen=True)
class Path:
    """How the layers are computed, as far as memory sees it."""

    copies: bool
    """Whether each adapted layer keeps a float32 copy of its input (PEFT, below a 16-bit base)."""
    wide_norms: bool
    """Whether norms keep their input in float32."""
    gate: int
    """Widths of the MLP that its gate keeps: gate, up and the activation of the gate; or gate and up."""
    chunk_bytes: int
    """Logits that exist at once; 0 for those of all scored positions."""
    slack: dict[str, float]
    """Memory held per byte in use, by device: what lies between tensors, too small for the next one."""
    masks: int = 0
    """Bytes that dropout keeps of each number it was given, beside its float32 result; 0 where it is off."""
    outputs: bool = False
    """Whether each adapted layer keeps its output and that of its adapter (DoRA)."""
    base_inputs: bool = False
    """Whether the frozen layers keep their input, too (bitsandbytes' products in 8 bits)."""
    blocks: bool = True
    """Whether attention goes by blocks where SCORES has an entry, and not by a kernel that keeps no scores."""


EAGER = Path(copies=True, wide_norms=True, gate=3, chunk_bytes=0, slack={"cpu": 1.7, "cuda": 1.05})
"""PEFT's own layers with the model's own loss."""
PARTLY = Path(copies=True, wide_norms=False, gate=2, chunk_bytes=34 << 20, slack={"cpu": 1.7, "cuda": 1.05})
"""PEFT's adapters between the fast norms, gates and loss of training/fast."""
FUSED = Path(copies=False, wide_norms=False, gate=2, chunk_bytes=34 << 20, slack={"cpu": 1.45, "cuda": 1.05})
"""With its fast adapters, too."""
SCORES = {("cpu", "bfloat16"): 3.5 * 4 * 128}
"""By device and type, where attention goes by blocks of 128 queries: bytes for each token and head while one layer's
gradient is made. Weights, slopes and their change in float32, and a copy in 16 bits."""
UNEVEN = {"cpu": 0.15}
"""Added to the slack where rows are packed: documents of many lengths leave pieces of many sizes."""
FEWER = {("cpu", "bfloat16"): 0.15}
"""Taken off the slack where kernels compute what else would leave pieces between its operations."""
CHUNK_BYTES = {"cuda": 320 << 20}
"""Where a device takes larger chunks than the path says: logits, and those of them that are worked on in float32."""
CHUNK_ROWS = 1024
"""Most positions in a chunk of logits."""
TIGHT = 1.05
"""The same where layers are checkpointed: the C library is then told to give back each block at once."""
SCRATCH = {("cpu", 4): 9_000_000, ("cpu", 2): 33_000_000}
"""What matrix products hold beside the tensors, by device and bytes of an element."""

_SHARED = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value", "Wqkv"), "attention"),
    **dict.fromkeys(("gate_proj", "up_proj", "gate_up_proj", "w1", "w3"), "mlp"),
    **dict.fromkeys(("o_proj", "out_proj", "wo"), "attention output"),
}
"""Layers that read the same input; the attention output is kept by the attention itself."""
_GATED = ("gate_proj", "gate_up_proj", "w3")


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
        """Predicted peak bytes of the process with `tokens` in the micro-batch, the first `checkpointed` layers of the
        model computed twice.

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

    @property
    def fits_tokens(self) -> int:
        """Tokens of a micro-batch that fit without checkpointing."""
        return self.fitting_tokens()


def plan_memory(
    info: ModelInfo,
    *,
    dtype: str,
    rank: int,
    targets: tuple[str, ...] = ALL_LINEAR,
    free_bytes: int,
    quantised: str = "",
    optimizer: str = "adamw_torch",
    path: Path = EAGER,
    device: str = "cpu",
    scored: float = 1.0,
    packed: bool = False,
) -> MemoryPlan:
    """Predict the bytes of a LoRA run.

    `dtype` is that of the base (of its embeddings and head where the linear layers are `quantised`: int8 or nf4),
    `scored` the share of positions that teach. `packed` rows have documents, one after the other.
    """
    size = BYTES[dtype]
    row = info.vocab_size * size if path.chunk_bytes else 0
    unpacked = max((n.inputs * n.outputs for n in linears(info)), default=0) * size if quantised else 0
    # Chunked: the chosen positions and their gradient. At once: float32 logits, their gradient, and the softmax's.
    per_scored = 3 * size * info.hidden_size if path.chunk_bytes else 12 * info.vocab_size
    scores = 0.0 if packed or not path.blocks else SCORES.get((device, dtype), 0.0) * info.heads
    return MemoryPlan(
        process=PROCESS.get(device, 0),
        weights=weight_bytes(info, size, quantised),
        adapters=adapter_bytes(info, rank, targets, optimizer, 0 if path.copies else size),
        workspace=unpacked + SCRATCH.get((device, size), 0),
        layers=info.layers,
        per_layer=activation_bytes(info, size, rank, targets, path, packed),
        boundary=size * info.hidden_size,
        transient=int(max(size * (2 * info.intermediate_size + 2 * info.hidden_size), scores)),
        logits=int(4 * info.hidden_size + scored * per_scored),
        chunk=min(CHUNK_BYTES.get(device, path.chunk_bytes), CHUNK_ROWS * row),
        chunk_per_token=int(scored * row),
        chunk_stays=device == "cpu",
        slack=_slack(path, device, dtype, packed),
        room=int(free_bytes * HEADROOM[device]),
    )


def _slack(path: Path, device: str, dtype: str, packed: bool) -> float:
    spared = 0.0 if path.blocks else FEWER.get((device, dtype), 0.0)
    uneven = UNEVEN.get(device, 0.0) if packed and not spared else 0.0
    return path.slack.get(device, 1.0) + uneven - spared


def weight_bytes(info: ModelInfo, size: int, quantised: str = "") -> int:
    """The frozen base: quantised linear layers, everything else (embeddings, head, norms) in `size` bytes."""
    if not quantised:
        return info.parameters * size
    packed = sum(n.parameters for n in linears(info))
    return int(packed * LINEAR_BYTES[quantised] + (info.parameters - packed) * size)


def adapter_parameters(info: ModelInfo, rank: int, targets: tuple[str, ...]) -> int:
    """Numbers a LoRA of `rank` on `targets` trains."""
    return sum(rank * (n.inputs + n.outputs) * n.count for n in adapted(info, targets))


def adapter_bytes(info: ModelInfo, rank: int, targets: tuple[str, ...], optimizer: str, copy: int) -> int:
    """Float32 adapters and gradients, optimizer state, the best weights, copies of `copy` bytes to compute by."""
    return int(adapter_parameters(info, rank, targets) * (8 + OPTIMIZERS[optimizer].state_bytes + KEPT_COPY + copy))


def activation_bytes(
    info: ModelInfo, size: int, rank: int, targets: tuple[str, ...], path: Path = EAGER, packed: bool = False
) -> int:
    """Kept for the backward pass per token and layer, for base elements of `size` bytes."""
    query, key_value = info.heads * info.head_dim, info.kv_heads * info.head_dim
    gated = not info.linears or any(n.name in _GATED for n in info.linears)
    chosen, share = adapted(info, targets), 1 / max(info.layers, 1)
    norms = 2 * (4 if path.wide_norms else size) * info.hidden_size
    # Of packed rows each document's output is kept, and their joined copy is what the next layer reads.
    attention = size * ((3 if packed else 2) * query + 2 * key_value) + 4 * info.heads
    activation = size * (path.gate if gated else 2) * info.intermediate_size
    inputs = sum(n.inputs * n.count * share for n in chosen)
    outputs = (size + 4) * path.outputs * sum(n.outputs * n.count * share for n in chosen)
    if path.masks:
        read = (4 + path.masks) * inputs
    elif path.copies and size < 4:
        read = 4 * inputs
    else:
        read = size * _distinct_inputs(chosen, share)
    if path.base_inputs and (path.masks or size < 4):
        read += size * _distinct_inputs(linears(info), share)
    ranks = sum((4 if path.copies else size) * rank * n.count * share for n in chosen)
    return int(norms + attention + activation + read + outputs + ranks)


def linears(info: ModelInfo) -> tuple[Linear, ...]:
    """The linear layers of the decoder: what the headers say, or a Llama of the config's sizes."""
    if info.linears:
        return info.linears
    hidden, inner = info.hidden_size, info.intermediate_size
    query, key_value = info.heads * info.head_dim, info.kv_heads * info.head_dim
    shapes = {
        "q_proj": (hidden, query),
        "k_proj": (hidden, key_value),
        "v_proj": (hidden, key_value),
        "o_proj": (query, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    return tuple(Linear(name, *shape, info.layers) for name, shape in shapes.items())


def adapted(info: ModelInfo, targets: tuple[str, ...]) -> tuple[Linear, ...]:
    """The linear layers that get a LoRA; all of them where the names of the targets are not known."""
    every = linears(info)
    leaves = {target.rpartition(".")[2] for target in targets}
    return tuple(n for n in every if n.name in leaves) or every


def _distinct_inputs(chosen: Iterable[Linear], share: float) -> float:
    """Elements of different inputs per layer: layers that read the same one keep it once."""
    widths: dict[str, float] = {}
    for n in chosen:
        group = _SHARED.get(n.name, n.name)
        if group != "attention output":
            key = group if group in _SHARED.values() else f"{group} {n.inputs}"
            widths[key] = max(widths.get(key, 0.0), n.inputs * min(1.0, n.count * share))
    return sum(widths.values())


def must_part(whole: MemoryPlan, parted: MemoryPlan, *, longest: int, device: str) -> bool:
    """Whether the base has to be parted over several processes: where it is whole, not even one row of `longest` tokens
    fits beside it, and where it is parted, one does, or the whole would not fit by itself.

    Processes on CPUs share one memory: parting would gain nothing there.
    """
    most = whole.fitting_tokens(whole.layers)
    return device == "cuda" and most < longest and (most == 0 or parted.fitting_tokens(parted.layers) >= longest)
