"""The numbers of answers equal those of the libraries that define them, zeros included."""

from __future__ import annotations

import random
import sys

import pytest

from llm_installer.evals.items import without_thought
from llm_installer.evals.overlap import UNICODE, UnicodeWords, overlap
from llm_installer.evals.squad import exact, f1, normalised

NORMALISED = [
    ("The Cat", "cat"),
    ("a cat, an owl and THE dog!", "cat owl and dog"),
    ("  many   spaces\tand\nlines ", "many spaces and lines"),
    ("U.S.A.", "usa"),
    ("it's", "its"),
    ("theatre another", "theatre another"),
    ("the", ""),
    ("", ""),
    ("!?", ""),
    ("the-cat", "thecat"),
    ("a. the.", ""),
    ("Ärger über Öl", "ärger über öl"),
    ("東京", "東京"),
    ("«x»", "«x»"),
]
SCORED = [
    ("the cat", ["Cat."], 1.0, 1.0),
    ("", [""], 1.0, 0.0),
    ("the", ["a"], 1.0, 0.0),
    ("", ["cat"], 0.0, 0.0),
    ("cat", [""], 0.0, 0.0),
    ("black cat", ["cat"], 0.0, 2 / 3),
    ("cat cat dog", ["cat dog dog"], 0.0, 2 / 3),
    ("black cat", ["dog", "a cat", "black cat!"], 1.0, 1.0),
    ("one two three four", ["three four five"], 0.0, 4 / 7),
]
WORDS = ["the", "a", "cat", "dog", "runs", "fast.", "Über", "Öl?", "42", "U.S.", "naïve", "東京", "は", "大きい"]
WORDS += ["red-blue", "it's\nand"]


@pytest.mark.parametrize(("text", "right"), NORMALISED)
def test_squad_normalises_so(text: str, right: str) -> None:
    assert normalised(text) == right


def test_a_thought_is_not_compared() -> None:
    assert without_thought("<think>\nIs it Ada?\n</think>\n\nAda") == "Ada"
    assert without_thought("is it</think>Ada") == without_thought(" Ada ") == "Ada"


@pytest.mark.parametrize(("said", "wanted", "match", "share"), SCORED)
def test_exact_match_and_f1_are_those_of_squad(said: str, wanted: list[str], match: float, share: float) -> None:
    assert exact(said, wanted) == match
    assert f1(said, wanted) == pytest.approx(share)


def cases(count: int, words: list[str] = WORDS) -> list[tuple[str, list[str]]]:
    made = random.Random(7)

    def text() -> str:
        return " ".join(made.choices(words, k=made.randrange(0, 9)))

    return [(text(), [text() for _ in range(made.randrange(1, 4))]) for _ in range(count)]


def test_rouge_bleu_and_chrf_equal_the_libraries() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    sacrebleu = pytest.importorskip("sacrebleu")
    made = cases(200)
    said, wanted = [one for one, _ in made], [some for _, some in made]
    found = overlap(said, wanted)
    for number, (answer, references) in enumerate(made):
        for name in ("rouge1", "rouge2", "rougeL"):
            assert found.rows[name][number] == max(scorer.score(one, answer)[name].fmeasure for one in references)
    for group in (1, 2, 3):
        some = [(a, r[:group]) for a, r in made if len(r) >= group]
        streams = [[references[i] for _, references in some] for i in range(group)]
        corpus = overlap([a for a, _ in some], [r for _, r in some]).corpus
        assert corpus["bleu"] == sacrebleu.corpus_bleu([a for a, _ in some], streams).score
        assert corpus["chrf"] == sacrebleu.corpus_chrf([a for a, _ in some], streams).score


def test_scripts_that_rouge_does_not_see_are_named_and_have_another_metric() -> None:
    pytest.importorskip("rouge_score")
    found = overlap(["東京は大きい", "a cat", "Всем привет"], [["東京は小さい"], ["a cat"], ["привет, мир"]])
    assert found.rows["rougeL"] == [0.0, 1.0, 0.0]
    assert found.rows[UNICODE] == pytest.approx([2 * 4 / 12, 1.0, 0.5])
    assert "nothing in 2 of 3 references" in found.notes[0]
    assert "sacrebleu" not in sys.modules or "1 of 3 references are in a script without them" in found.notes[1]
    assert UNICODE not in overlap(["a"], [["b"]]).rows
    assert UnicodeWords().tokenize("It's 東京, naïve_x 7") == ["it", "s", "東", "京", "naïve", "x", "7"]


def test_a_library_that_is_missing_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rouge_score", "sacrebleu"):
        monkeypatch.setitem(sys.modules, name, None)
    found = overlap(["a"], [["a"]])
    assert found.rows == found.corpus == {}
    assert found.notes[0].startswith(
        "ROUGE, BLEU and chrF: not computed, since a package is missing; install it with: "
    )
    assert found.notes[0].endswith("-m pip install rouge-score sacrebleu")
