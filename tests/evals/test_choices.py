"""Choices: the layouts that are read, and ranks by lm-eval's rules, with umlauts and Chinese among them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.data.formats.values import SkipRecord
from llm_installer.evals.items import Item
from llm_installer.evals.layouts import choice_of
from llm_installer.evals.ranking import choice_row, rank, ranked
from llm_installer.models.base import load_base
from tests.generated import many

ABC = ["one", "two", "three"]
LAYOUTS = [
    ({"question": "Q?", "choices": ABC, "answer": 2}, ("Q?", ABC, 2, False)),
    ({"question": "Q?", "subject": "x", "choices": '["one", "two", "three"]', "answer": "1"}, ("Q?", ABC, 1, False)),
    (
        {"question": "Q?", "choices": {"text": ABC, "label": ["A", "B", "C"]}, "answerKey": "C"},
        ("Q?", ABC, 2, False),
    ),
    (
        {"question": "Q?", "choices": {"text": ABC, "label": ["1", "2", "3"]}, "answerKey": "1"},
        ("Q?", ABC, 0, False),
    ),
    ({"question_stem": "Q?", "options": {"A": "one", "B": "two"}, "answer": "B"}, ("Q?", ABC[:2], 1, False)),
    (
        {"question": "Q?", "options": [{"label": "A", "text": "one"}, {"label": "B", "text": "two"}], "answer": "b"},
        ("Q?", ABC[:2], 1, False),
    ),
    ({"question": "Q?", "options": ABC, "answer": "two"}, ("Q?", ABC, 1, False)),
    ({"Question": "Q?", "A": "one", "B": "two", "C": "three", "D": "four", "Answer": "D"},
     ("Q?", [*ABC, "four"], 3, False)),
    ({"question": "1 + 1?", "choices": ["1", "2", "3"], "answer": 1}, ("1 + 1?", ["1", "2", "3"], 1, False)),
    ({"question": "1 + 1?", "choices": ["1", "2", "3"], "answer": "2"}, ("1 + 1?", ["1", "2", "3"], 1, False)),
    ({"goal": "Q?", "sol1": "one", "sol2": "two", "label": 1}, ("Q?", ABC[:2], 1, False)),
    ({"ctx": "He", "endings": ABC, "label": "0", "activity_label": "x"}, ("He", ABC, 0, True)),
]  # fmt: skip


@pytest.mark.parametrize(("record", "right"), LAYOUTS)
def test_usual_layouts_of_choices_are_read(record: dict[str, object], right: tuple[str, list[str], int, bool]) -> None:
    found = choice_of(record)
    assert found and (found.question, list(found.choices), found.right, found.continues) == right


@pytest.mark.parametrize(
    "record", [{"question": "Q", "answer": "A"}, {"instruction": "a", "output": "b"}, "text", {"choices": ABC}, 3]
)
def test_other_records_are_no_choices(record: object) -> None:
    assert choice_of(record) is None


@pytest.mark.parametrize(
    "broken",
    [{"choices": ABC, "answer": 3}, {"choices": ["one"], "answer": 0}, {"choices": ["", "b"], "answer": 1},
     {"choices": ABC, "answer": "E"}, {"choices": 5, "answer": 0}, {"choices": ABC, "answer": None}],
)  # fmt: skip
def test_broken_choices_are_skipped_with_a_reason(broken: dict[str, object]) -> None:
    with pytest.raises(SkipRecord):
        choice_of({"question": "Q?", **broken})


WORDS = st.sampled_from(["", "A", "b", "2", "-1", "9" * 30, "Q?", "[1, 2]", "{", "x", "\u00b2"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.just("text") | st.just("label"), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["question", "choices", "options", "answer", "ctx", "endings", "label", "A", "B", "C", "D"]),
        ANYTHING,
    )
)
@settings(max_examples=many(100), deadline=None)
def test_a_record_is_choices_or_none_or_skipped_whatever_it_holds(record: dict[str, object]) -> None:
    try:
        found = choice_of(record)
    except SkipRecord:
        return
    assert found is None or (len(found.choices) > 1 and found.choices[found.right].strip() and found.question.strip())


PIECES = ["Straße", "Ökonomie", "東京", "大きい", "die Maus", "lives", "é", "ß", "中文字", "a", "übergroß", " at", "!"]


def test_ranks_follow_the_rules_with_ties_and_bytes() -> None:
    made = random.Random(3)
    for _ in range(200):
        choices = ["".join(made.choices(PIECES, k=made.randrange(1, 4))) for _ in range(made.randrange(2, 5))]
        sums = np.array([-float(made.randrange(1, 12)) for _ in choices])
        per_character = [s / len(c) for s, c in zip(sums, choices, strict=True)]
        per_byte = [s / len(c.encode()) for s, c in zip(sums, choices, strict=True)]
        assert ranked(sums, choices).chosen == {
            "acc": list(sums).index(max(sums)),
            "acc_norm": per_character.index(max(per_character)),
            "acc_bytes": per_byte.index(max(per_byte)),
        }
    assert ranked(np.array([-2.0, -2.0, -3.0]), ["a", "b", "c"]).chosen["acc"] == 0
    assert ranked(np.array([-4.0, -4.1]), ["ab", "東京"]).chosen == {"acc": 0, "acc_norm": 0, "acc_bytes": 1}


@pytest.fixture(scope="module")
def random_model(tiny_llama: Path) -> tuple[torch.nn.Module, Encoder]:
    return load_base(tiny_llama, "float32", "cpu").eval(), Encoder(load_tokenizer(tiny_llama))


def test_choices_are_scored_as_lm_eval_does(random_model: tuple[torch.nn.Module, Encoder]) -> None:
    """By its rule, written once more: spaces at the end of the context move to the continuation, both are encoded
    together, and what lies behind as many tokens as the context has alone is the continuation."""
    model, encoder = random_model
    made = random.Random(11)
    items, right = [], []
    for number in range(100):  # two choices each
        question = " ".join(made.choices(PIECES, k=made.randrange(1, 5))) + made.choice(["", " ", "  ", "\n"])
        choices = tuple(" ".join(made.choices(PIECES, k=made.randrange(1, 3))) for _ in range(2))
        kind = "completion" if number % 2 else "chat"
        example = Example((Message("user", question), Message("assistant", choices[0])), Origin("x", number), kind)
        items.append(Item(example, (choices[0],), choices))
        for choice in choices:
            context = question if kind == "completion" else encoder.template.prompt([Message("user", question)])
            continuation = f" {choice}" if kind == "completion" else choice
            spaces = len(context) - len(context.rstrip())
            if spaces:
                context, continuation = context[:-spaces], context[-spaces:] + continuation
            ids, before = (
                encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
                for text in (context + continuation, context)
            )
            with torch.inference_mode():
                logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            right.append(sum(float(logs[at - 1, ids[at]]) for at in range(len(before), len(ids))))
    found = [value for one in rank(model, encoder, items, 256) for value in one.logprobs]
    assert found == pytest.approx(right, abs=2e-3)
    assert len({round(value, 3) for value in found}) > 80


def test_an_empty_context_begins_with_the_end_of_text(random_model: tuple[torch.nn.Module, Encoder]) -> None:
    _, encoder = random_model
    example = Example((Message("user", "  "), Message("assistant", "a")), Origin("x"), "completion")
    row = choice_row(encoder, Item(example, ("a",), ("ab", "b")), 0, 256)
    assert row.ids[0] == encoder.eos and row.supervised.tolist() == [False] + [True] * (len(row.ids) - 1)


def test_what_is_too_long_loses_the_beginning_of_the_question(random_model: tuple[torch.nn.Module, Encoder]) -> None:
    _, encoder = random_model
    example = Example((Message("user", "word " * 300), Message("assistant", "a")), Origin("x"))
    item = Item(example, ("a",), ("yes", "no"))
    whole, part = choice_row(encoder, item, 0, 10_000), choice_row(encoder, item, 0, 64)
    assert part.ids.tolist() == whole.ids[-64:].tolist() and part.supervised.sum() == whole.supervised.sum()
