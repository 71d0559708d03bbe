"""How the layers of a model are computed in training, as far as memory sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_installer.planning.setup import Setup


@dataclass(frozen=True)
class Path:
    """One way to compute them."""

    copies: bool
    """Whether each adapted layer keeps a float32 copy of its input (PEFT, below a 16-bit base)."""
    wide_norms: bool
    """Whether norms keep their input in float32."""
    gate: int
    """Widths of the MLP that its gate keeps: gate, up and the activation of the gate; or gate and up."""
    chunk_bytes: int
    """Logits that exist at once; 0 for those of all supervised positions."""
    slack: dict[str, float]
    """Memory held per byte in use, by device: what lies between tensors, too small for the next one."""
    masks: int = 0
    """Bytes that dropout keeps of each number it was given, beside its float32 result; 0 where it is off."""
    outputs: bool = False
    """Whether each adapted layer keeps its output and that of its adapter (DoRA)."""
    base_inputs: bool = False
    """Whether the frozen layers keep their input, too (bitsandbytes' products in 8 bits)."""
    blocks: bool = True
    """Whether attention goes by blocks where planning.memory.SCORES has an entry, and not by a kernel that keeps no
    scores."""


EAGER = Path(copies=True, wide_norms=True, gate=3, chunk_bytes=0, slack={"cpu": 1.7, "cuda": 1.05})
"""PEFT's own layers with the model's own loss."""
PARTLY = Path(copies=True, wide_norms=False, gate=2, chunk_bytes=34 << 20, slack={"cpu": 1.7, "cuda": 1.05})
"""PEFT's adapters between the fast norms, gates and loss of training/fast."""
FUSED = Path(copies=False, wide_norms=False, gate=2, chunk_bytes=34 << 20, slack={"cpu": 1.45, "cuda": 1.05})
"""With its fast adapters, too."""


def path_of(setup: Setup) -> Path:
    """The way that training takes: training/fast covers plain LoRA above unquantised or 4-bit layers."""
    if not setup.fast:
        return EAGER
    dropout, dora = setup.adapters.dropout, setup.method.dora
    eight_bits = setup.method.quantised == "int8"
    path = FUSED
    if eight_bits or dora or dropout:
        masks = (4 if setup.hardware.device == "cpu" else 1) if dropout else 0
        path = replace(PARTLY, masks=masks, outputs=dora, base_inputs=eight_bits)
    return replace(path, blocks=False) if setup.hardware.compiler else path
