"""Scores of answers, in Python: the numbers of `evaluate` for answers that one has already."""

from __future__ import annotations

from collections.abc import Sequence

from llm_installer.core.errors import UsageError
from llm_installer.core.hints import pip
from llm_installer.evals.overlap import ROUGE, UNICODE, overlap
from llm_installer.evals.squad import exact, f1

References = Sequence[str | Sequence[str]]


def accuracy(predictions: Sequence[str], references: References) -> float:
    """Share of answers that equal a reference, from 0 to 1; case, punctuation and English articles do not count, as in
    SQuAD.

    A reference is one text, or several right ones. Raises UsageError where the numbers of both differ.
    """
    return _mean([exact(said, wanted) for said, wanted in _pairs(predictions, references)])


def f1_score(predictions: Sequence[str], references: References) -> float:
    """Mean F1 over words of answers and their best references, from 0 to 1, as in SQuAD 1.1."""
    return _mean([f1(said, wanted) for said, wanted in _pairs(predictions, references)])


def rouge(predictions: Sequence[str], references: References) -> dict[str, float]:
    """Mean F-measures by name, from 0 to 1: rouge1, rouge2 and rougeL as rouge-score computes them without stemming.

    Where references are in other scripts than Latin, which rouge-score does not see, rougeL_unicode stands beside them.
    Raises UsageError where rouge-score is not installed, or the numbers of both differ.
    """
    pairs = _pairs(predictions, references)
    found = overlap([said for said, _ in pairs], [wanted for _, wanted in pairs]).rows
    if ROUGE[0] not in found:
        raise UsageError(f"rouge needs rouge-score, which is not installed; install it with: {pip('rouge-score')}")
    return {name: _mean(found[name]) for name in (*ROUGE, UNICODE) if name in found}


def _pairs(predictions: Sequence[str], references: References) -> list[tuple[str, list[str]]]:
    if isinstance(predictions, str) or isinstance(references, str):
        raise UsageError("predictions and references are lists of texts; put a single text into one: [text]")
    if len(predictions) != len(references) or not predictions:
        raise UsageError(
            f"There are {len(predictions):,} predictions and {len(references):,} references; give one for each"
        )
    several = [[wanted] if isinstance(wanted, str) else [*wanted] for wanted in references]
    return list(zip(predictions, several, strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
