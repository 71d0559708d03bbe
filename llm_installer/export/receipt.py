"""The receipt of whatever leaves the program: what it was compared with, what came of it, and whether that is right.

One format for all: receipt.json lies in the result, and the console shows the same in a few lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llm_installer.core.files import write_json

RECEIPT = "receipt.json"


@dataclass(frozen=True)
class Tolerance:
    """How far a result of one number format may be from the model that was tuned."""

    kl: float
    """Mean Kullback-Leibler divergence, in nats per token."""
    margin: float
    """Where the tuned model's two likeliest tokens are no further apart than this, either may come first."""


TOLERANCES = {
    "float32": Tolerance(kl=1e-6, margin=1e-3),
    "float16": Tolerance(kl=1e-3, margin=1e-2),
    "bfloat16": Tolerance(kl=1e-2, margin=1e-2),
}
"""By the type of the weights. In float32 only the order of sums differs, which moves logits by some 1e-5 and the
divergence, which grows with the square of that, by far less than 1e-6. float16 rounds each weight to 11 bits and
bfloat16 to 8, which moves logits of trained models by some thousandths and hundredths; a scale, a layer or a template
that is wrong moves them by tenths and more."""
SURVIVES = 0.5
"""Of the divergence between base and tuned model, the share from which on the rounding has taken the training back:
the result is then about as far from the tuned model as from the base."""
NOISE = {"float32": 1e-11, "float16": 1e-5, "bfloat16": 1e-4}
"""Nats per token that the order of sums makes by itself, by the type in which models are computed."""


@dataclass(frozen=True)
class Difference:
    """How far the logits of two models are apart, at the same positions of the same texts."""

    largest_logit: float
    kl: float
    """Mean Kullback-Leibler divergence from the first to the second, in nats per token."""
    same_top: float
    """Share of the positions at which both have the same likeliest token."""
    decided: float
    """The same without positions at which the first model's two likeliest tokens are nearly equal."""
    positions: int


@dataclass(frozen=True)
class Answers:
    """Greedy answers of the result, beside those of the tuned model."""

    asked: int
    equal: int
    near_ties: int
    """How many differ only from a token on at which the tuned model itself had two nearly equal ones."""
    different: tuple[str, ...] = ()
    """The prompts whose answers differ for another reason."""


@dataclass(frozen=True)
class Rounding:
    """What became of the weights that the adapter moves, when they were rounded."""

    moved: int
    unchanged: int
    """How many of them are as before, since the step was too small for the type."""

    @property
    def share(self) -> float:
        """Of those that were moved."""
        return self.unchanged / self.moved if self.moved else 0.0


@dataclass(frozen=True)
class Receipt:
    """What was found out about a result by loading it again."""

    kind: str
    """What it is: `merge`, ..."""
    dtype: str
    computed_in: str
    """The type in which both models were computed for it."""
    prompts: str
    """Where the prompts are from, in words."""
    tuned: Difference
    """From the base with the adapter to the result."""
    base: Difference
    """From the base alone to the result: that the training is still there."""
    trained: Difference
    """From the base with the adapter to the base alone: what the training did."""
    answers: Answers
    tokens_equal: bool
    """Whether the prompts are the same token ids to the result as in training."""
    rounding: Rounding
    onto: str = ""
    """For a run on a quantised base, which one it was merged onto: full or dequantised."""
    as_trained: Mapping[str, Difference] = field(default_factory=dict)
    """For such a run, from the model as it was trained to the adapter on either base."""

    @property
    def tolerance(self) -> Tolerance:
        """That of the coarser type: of the weights, or of the arithmetic."""
        return max((TOLERANCES[self.dtype], TOLERANCES[self.computed_in]), key=lambda each: each.kl)

    @property
    def nearer(self) -> str:
        """The base on which the adapter is nearer to the model as it was trained; empty where there is one only."""
        return min(self.as_trained, key=lambda each: self.as_trained[each].kl, default="")

    def write(self, folder: Path) -> None:
        """Write receipt.json. Raises DiskError."""
        found = asdict(self) | {"nearer": self.nearer, "tolerance": asdict(self.tolerance)}
        found["rounding"]["share"] = self.rounding.share
        write_json(folder / RECEIPT, found)


def problems(receipt: Receipt) -> Iterator[str]:
    """What of it is not as it must be, each as the end of a sentence; nothing where all is right."""
    limit, tuned = receipt.tolerance, receipt.tuned
    exact = limit == TOLERANCES["float32"]
    if not receipt.tokens_equal:
        yield "the prompts are other tokens to it than to the tuned model"
    if not tuned.kl <= limit.kl:  # nan is wrong, too
        yield f"it is {tuned.kl:.2g} nats per token away from the tuned model, and {limit.kl:g} is allowed"
    elif exact and tuned.decided < 1:
        yield f"its likeliest token is another one at {1 - tuned.same_top:.1%} of the positions"
    elif exact and receipt.answers.different:
        yield f"it answers {receipt.answers.different[0]!r} in other words than the tuned model"
    if receipt.trained.kl > NOISE[receipt.computed_in] and tuned.kl > SURVIVES * receipt.trained.kl:
        yield (
            f"of what the training changed, too little survives the rounding to {receipt.dtype}: the result is "
            f"{tuned.kl:.2g} nats per token away from the tuned model, and the base {receipt.trained.kl:.2g}"
        )
