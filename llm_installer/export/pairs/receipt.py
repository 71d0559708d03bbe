"""The receipt of an adapter for another program: in the words of every receipt, and how far its products are off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from llm_installer.core.files import write_json
from llm_installer.core.text import shortened
from llm_installer.export.receipt import NOISE, SURVIVES, TOLERANCES, Answers, Difference

PAIR_LIMITS = {"f32": 1e-5, "f16": 4e-3}
"""How far each product may be off, as a share of its largest number: float32 rounds two factors and the sum over their
rank; float16 rounds each factor to 11 bits, and small numbers to fewer."""
AS = {"f32": "float32", "f16": "float16"}
"""What torch calls each type."""


@dataclass(frozen=True)
class PairReceipt:
    """What was found out about an adapter by reading it back."""

    kind: str
    """`gguf-lora` or `mlx`."""
    dtype: str
    computed_in: str
    prompts: str
    tuned: Difference
    """From the base with the adapter, as PEFT computes it, to the base with what was read back."""
    base: Difference
    """From the base alone to the same: that the training is still there."""
    trained: Difference
    """From the base with the adapter to the base alone."""
    answers: Answers
    modules: int
    """Weights that the adapter changes."""
    largest: float
    """How far one of their products is off from what PEFT computes, as a share of its largest number."""
    worst: str
    """Whose product that is."""
    wrong: str = ""
    """What does not fit at all, as the end of a sentence; empty for nothing."""

    def write(self, file: Path, more: Mapping[str, object]) -> None:
        """Write it, with what else is to be known. Raises DiskError."""
        write_json(file, asdict(self) | {"allowed": PAIR_LIMITS[self.dtype], **more})

    @classmethod
    def of(cls, values: Mapping[str, object]) -> PairReceipt:
        """The receipt that another process has found, from what asdict makes of it."""
        plain = dict(values)
        tuned, base, trained = (_difference(plain.pop(name)) for name in ("tuned", "base", "trained"))
        answers = plain.pop("answers")
        assert isinstance(answers, dict), "as asdict made it"
        answers["different"] = tuple(answers["different"])
        return cls(tuned=tuned, base=base, trained=trained, answers=Answers(**answers), **plain)  # type: ignore[arg-type]


def _difference(value: object) -> Difference:
    assert isinstance(value, dict), "as asdict made it"
    return Difference(**value)


def problems(receipt: PairReceipt) -> Iterator[str]:
    """What of it is not as it must be, each as the end of a sentence; nothing where all is right."""
    limit, tuned = TOLERANCES[AS[receipt.dtype]], receipt.tuned
    coarser = max(limit, TOLERANCES[receipt.computed_in], key=lambda each: each.kl)
    allowed = PAIR_LIMITS[receipt.dtype]
    if receipt.wrong:
        yield receipt.wrong
    elif not receipt.largest <= allowed:  # nan is wrong, too
        yield (
            f"what it adds to {shortened(receipt.worst, 100)} is {receipt.largest:.2g} of its size away from what was "
            f"trained, and {allowed:g} is allowed"
        )
    elif not tuned.kl <= coarser.kl:
        yield f"it is {tuned.kl:.2g} nats per token away from the tuned model, and {coarser.kl:g} is allowed"
    elif receipt.trained.kl > NOISE[receipt.computed_in] and tuned.kl > SURVIVES * receipt.trained.kl:
        yield f"too little of what the training changed survives the rounding to {receipt.dtype}"
