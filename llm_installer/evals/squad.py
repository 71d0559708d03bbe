"""Exact match and F1 of answers as SQuAD 1.1 defines them (Rajpurkar et al., 2016, arXiv 1606.05250)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """In lower case, without ASCII punctuation and English articles, with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, references: Sequence[str]) -> float:
    """1 where the answer equals one of the references once all are normalised, else 0."""
    said = normalised(answer)
    return float(any(said == normalised(one) for one in references))


def f1(answer: str, references: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over words, that of the best reference; 0 without a common word, even
    where both are empty, as in version 1.1."""
    return max((_f1(normalised(answer).split(), normalised(one).split()) for one in references), default=0.0)


def _f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    common = sum((Counter(said) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)
