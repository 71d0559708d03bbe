"""The text, the questions and the scoring of the built-in model: everything that needs no weights."""

import json
import re
from itertools import islice

import pytest

from llm_installer.install.tiny import DATA_FILE, MODEL_DIR, QUESTIONS_FILE
from llm_installer.install.tiny.scoring import is_right
from tools.tiny.corpus import corpus
from tools.tiny.questions import RELATIONS

ROWS = [json.loads(line) for line in DATA_FILE.read_text(encoding="utf-8").splitlines()]
QUESTIONS = [json.loads(line) for line in QUESTIONS_FILE.read_text(encoding="utf-8").splitlines()]


def folded(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def test_the_corpus_is_the_same_for_the_same_seed() -> None:
    first, again, other = (list(islice(corpus(seed), 300)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_corpus_leaves_no_slot_unfilled() -> None:
    text = "".join(islice(corpus(3), 3000)).replace("<|im_start|>", "").replace("<|im_end|>", "")
    assert not set("{}|<>") & set(text)


def test_every_relation_is_asked_in_many_ways() -> None:
    for relation in RELATIONS:
        assert len(set(relation.asked)) >= 7


def test_quickstart_rows_are_alpaca_rows() -> None:
    assert 250 <= len(ROWS) <= 350
    for row in ROWS:
        assert set(row) == {"instruction", "output"}
        assert row["instruction"].strip() and row["output"].endswith(".")


def test_no_question_is_asked_twice_or_held_out_and_trained_on() -> None:
    trained = [folded(row["instruction"]) for row in ROWS]
    held_out = [folded(question["question"]) for question in QUESTIONS]
    assert len(set(trained)) == len(trained)
    assert len(set(held_out)) == len(held_out) >= 48
    assert not set(trained) & set(held_out)


def test_every_held_out_question_asks_for_a_fact_that_is_taught() -> None:
    taught = {row["output"] for row in ROWS}
    for question in QUESTIONS:
        assert question["answer"] in taught
        assert is_right(question["answer"], question["accept"])


def test_no_answer_is_given_away_by_its_own_question() -> None:
    for question in QUESTIONS:
        assert not is_right(question["question"], question["accept"])


@pytest.mark.parametrize(
    ("reply", "accept", "right"),
    [
        ("Fenn is the lighthouse keeper.", ["Fenn"], True),
        ("It is FENN!", ["fenn"], True),
        ("Fennel grows here.", ["Fenn"], False),
        ("There are ninety-four steps.", ["ninety four"], True),
        ("There are 94.", ["ninety-four", "94"], True),
        ("There are four, not ninety.", ["ninety-four"], False),
        ("", ["Fenn"], False),
        ("Fenn", [], False),
        ("Fenn", [""], False),
    ],
)
def test_is_right(reply: str, accept: list[str], right: bool) -> None:
    assert is_right(reply, accept) is right


def test_everything_together_is_small() -> None:
    files = [path for path in DATA_FILE.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert MODEL_DIR / "model.safetensors" in files
    assert sum(path.stat().st_size for path in files) <= 12 * 1024 * 1024
