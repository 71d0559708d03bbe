"""The receipt of a GGUF file: in the words of every receipt, and what only such a file has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.files import write_json
from llm_installer.core.text import shortened
from llm_installer.export.receipt import NOISE, SURVIVES, TOLERANCES, Answers, Difference, Tolerance

LIMITS = {
    "f32": TOLERANCES["float32"],
    "f16": TOLERANCES["float16"],
    "bf16": TOLERANCES["bfloat16"],
    "q8_0": Tolerance(kl=1e-2, margin=3e-2),
    "q4_k_m": Tolerance(kl=0.2, margin=0.5),
}
"""By the type of the weights. q8_0 rounds each weight to 8 bits of the largest of 32, about as bfloat16 does; q4_k_m
rounds most of them to 4 bits, which moves logits by some tenths."""
LARGEST_LOGIT = 1e-4
"""How far apart logits may be in f32 where nothing was merged: only the order of sums differs."""


@dataclass(frozen=True)
class FileReceipt:
    """What was found out about a file by reading it back."""

    dtype: str
    """The type of most weights."""
    computed_in: str
    prompts: str
    tuned: Difference
    """From the model directory to the file."""
    answers: Answers
    texts: int
    """How many texts were compared as tokens."""
    other_tokens: tuple[str, ...]
    """Those that are other tokens to the file."""
    other_template: str
    """A conversation that the file's template renders differently; empty for none."""
    config: str
    """`file` where the model was made of the file alone, `ours` where its tensors were put into one of our config."""
    base: Difference | None = None
    """From the base alone to the file, where an adapter was merged into it: that the training is still there."""
    trained: Difference | None = None
    """From the base with that adapter to the base alone: what the training did."""
    kind: str = "gguf"

    @property
    def tokens_equal(self) -> bool:
        return not self.other_tokens

    def write(self, file: Path, more: Mapping[str, object]) -> None:
        """Write it, with what else is to be known. Raises DiskError."""
        found = asdict(self) | {"tokens_equal": self.tokens_equal, "tolerance": asdict(LIMITS[self.dtype]), **more}
        write_json(file, found)

    @classmethod
    def of(cls, values: Mapping[str, object]) -> FileReceipt:
        """The receipt that another process has found, from what asdict makes of it. Raises ModelError."""
        tuned, answers = values.get("tuned"), values.get("answers")
        if not isinstance(tuned, dict) or not isinstance(answers, dict):
            raise ModelError("The file could not be compared with the model")
        nested = ("tuned", "answers", "other_tokens", "base", "trained")
        plain = {name: value for name, value in values.items() if name not in nested}
        texts, base, trained = (values.get(name) for name in ("other_tokens", "base", "trained"))
        answers["different"] = tuple(answers["different"])
        return cls(
            tuned=Difference(**tuned),
            answers=Answers(**answers),
            other_tokens=tuple(texts) if isinstance(texts, list) else (),
            base=Difference(**base) if isinstance(base, dict) else None,
            trained=Difference(**trained) if isinstance(trained, dict) else None,
            **plain,  # type: ignore[arg-type]
        )


def problems(receipt: FileReceipt) -> Iterator[str]:
    """What of it is not as it must be, each as the end of a sentence; nothing where all is right."""
    limit, tuned = LIMITS[receipt.dtype], receipt.tuned
    if receipt.other_tokens:
        one = shortened(receipt.other_tokens[0], 60)
        yield f"{len(receipt.other_tokens)} of {receipt.texts} texts are other tokens to it than to the model: {one!r}"
    if receipt.other_template:
        yield f"its chat template renders {shortened(receipt.other_template, 60)!r} differently"
    exact = receipt.dtype == "f32" and receipt.trained is None
    if exact and not tuned.largest_logit <= LARGEST_LOGIT:  # nan is wrong, too
        yield f"its logits are up to {tuned.largest_logit:.2g} away from the model's, and {LARGEST_LOGIT:g} is allowed"
    elif not tuned.kl <= limit.kl:
        yield f"it is {tuned.kl:.2g} nats per token away from the model, and {limit.kl:g} is allowed"
    elif receipt.dtype == "f32" and receipt.answers.different:
        yield f"it answers {receipt.answers.different[0]!r} in other words than the model"
    trained = receipt.trained.kl if receipt.trained else 0.0
    if trained > NOISE[receipt.computed_in] and tuned.kl > SURVIVES * trained:
        yield (
            f"of what the training changed, too little survives the rounding to {receipt.dtype}: the file is "
            f"{tuned.kl:.2g} nats per token away from the tuned model, and the base {trained:.2g}"
        )
