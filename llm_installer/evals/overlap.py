"""ROUGE, BLEU and chrF by the libraries that define them: rouge-score and sacrebleu, of the extra `eval`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import cast

from llm_installer.core.hints import pip

ROUGE = ("rouge1", "rouge2", "rougeL")
UNICODE = "rougeL_unicode"
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORDS = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")
"""A word, or a character of a script that puts no spaces between words: Thai, Lao, Burmese, Khmer, kana, Han."""
_UNSPACED = re.compile(f"[{_SPACELESS}]")
_LATIN = re.compile("[a-z0-9]")
_LETTER = re.compile(r"[^\W_]")


@dataclass(frozen=True)
class Overlap:
    """How much the answers have in common with their references."""

    rows: dict[str, list[float]] = field(default_factory=dict)
    """Of each row, by a name of METRICS: F-measures from 0 to 1."""
    corpus: dict[str, float] = field(default_factory=dict)
    """Of all answers together: BLEU and chrF, from 0 to 100."""
    notes: tuple[str, ...] = ()


class UnicodeWords:
    """Words in every script, for rouge-score; its own are those of a-z and 0-9 alone."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text in lower case; in scripts without spaces between words, the characters."""
        return _WORDS.findall(text.lower())


def invisible(text: str) -> bool:
    """Whether rouge-score sees nothing in a text that has letters."""
    return not _LATIN.search(text.lower()) and bool(_LETTER.search(text))


def overlap(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Overlap:
    """ROUGE without stemming, of the best reference by each score; BLEU and chrF as sacrebleu computes them by default.

    A library that is not installed is left out, with a note that says how to install it.
    """
    rows, corpus, notes = dict[str, list[float]](), dict[str, float](), list[str]()
    if find_spec("rouge_score"):
        rows, notes = _rouge(answers, references)
    if find_spec("sacrebleu"):
        corpus = _bleu(answers, references)
        if unspaced := sum(bool(_UNSPACED.search("".join(wanted))) for wanted in references):
            notes.append(
                f"BLEU counts words between spaces, and {unspaced:,} of {len(answers):,} references are in a script "
                "without them; look at chrF instead"
            )
    lacking = [name for name in ("rouge_score", "sacrebleu") if not find_spec(name)]
    if lacking:
        packages = " ".join(name.replace("_", "-") for name in lacking)
        measures = {"rouge_score": "ROUGE", "sacrebleu": "BLEU and chrF"}
        what = ", ".join(measures[name] for name in lacking)
        notes.append(f"{what}: not computed, since a package is missing; install it with: {pip(packages)}")
    return Overlap(rows, corpus, tuple(notes))


def _rouge(answers: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[dict[str, list[float]], list[str]]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGE), use_stemmer=False)
    scores = [scorer.score_multi(list(wanted), said) for said, wanted in zip(answers, references, strict=True)]
    rows = {name: [float(score[name].fmeasure) for score in scores] for name in ROUGE}
    unseen = sum(all(map(invisible, wanted)) for wanted in references)
    if not unseen:
        return rows, []
    wide = RougeScorer(["rougeL"], use_stemmer=False, tokenizer=UnicodeWords())
    found = [wide.score_multi(list(wanted), said) for said, wanted in zip(answers, references, strict=True)]
    rows[UNICODE] = [float(score["rougeL"].fmeasure) for score in found]
    return rows, [
        f"ROUGE sees only the letters a to z and digits, and so nothing in {unseen:,} of {len(answers):,} references: "
        "it is 0 there; look at chrF and at ROUGE-L of Unicode words instead"
    ]


def _bleu(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    most = max(map(len, references))
    # None, which its types leave out, stands for a reference that a row does not have.
    streams = [[cast(str, wanted[i] if i < len(wanted) else None) for wanted in references] for i in range(most)]
    return {
        "bleu": float(BLEU().corpus_score(list(answers), streams).score),
        "chrf": float(CHRF().corpus_score(list(answers), streams).score),
    }
