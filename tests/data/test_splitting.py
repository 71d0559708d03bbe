"""The split: every row on exactly one side, every prompt too, and the same answer every time."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.core.errors import UsageError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.splitting import Split, split
from llm_installer.data.store.keys import prompt_key, row_key


def chat(prompt: str, answer: str) -> Example:
    return Example((Message("user", prompt), Message("assistant", answer)), Origin("f"))


def keys(examples: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([prompt_key(e) for e in examples], dtype=np.uint64),
        np.array([row_key(e) for e in examples], dtype=np.uint64),
    )


def groups(prompts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Keys of rows that are all different, with these prompts."""
    hashed = [prompt_key(chat(f"prompt {chr(97 + p // 26)}{chr(97 + p % 26)}", "x")) for p in prompts]
    return np.array(hashed, dtype=np.uint64), np.arange(len(prompts), dtype=np.uint64)


def make(prompt_keys, row_keys, share=0.1, seed=42, max_examples=None, **more) -> Split:
    return split(prompt_keys, row_keys, validation_split=share, seed=seed, max_examples=max_examples, **more)


def test_half_duplicated_data_never_has_a_prompt_on_both_sides():
    examples = [chat(f"question {i} {'?' * (i % 3)}", f"answer {i % 5}") for i in range(500)]
    examples += [chat(f"QUESTION {i}", f"answer {i % 7}") for i in range(250)] + examples[:250]
    prompts, rows = keys(examples)
    found = make(prompts, rows)
    assert not set(prompts[found.train]) & set(prompts[found.validation])
    assert found.duplicates == 250
    assert len(found.train) + len(found.validation) == 750
    assert len(found.validation) == 75


def test_fifty_variants_of_one_row_do_not_overlap_where_a_random_split_does():
    question = "how do I boil an egg so that it stays soft"
    chance = random.Random(0)
    variants = [
        "".join(c.upper() if chance.random() < 0.5 else c for c in question) + "?" * chance.randrange(4) + " " + "." * i
        for i in range(50)
    ]
    examples = [chat(v, "five minutes") for v in variants] + [chat(f"other {chr(97 + i)}", "x") for i in range(20)]
    prompts, rows = keys(examples)
    found = make(prompts, rows)
    assert found.duplicates == 0
    assert not set(prompts[found.train]) & set(prompts[found.validation])
    shuffled = chance.sample(range(70), 70)
    assert set(prompts[shuffled[:7]]) & set(prompts[shuffled[7:]])


@pytest.mark.parametrize(
    ("prompts", "share", "held", "reason"),
    [
        ([], 0.1, 0, "no validation: 0 rows cannot be split"),
        ([1], 0.1, 0, "no validation: 1 row cannot be split"),
        ([1, 2], 0.1, 1, "1 of 2 rows (50.0%)"),
        ([1, 2, 3], 0.1, 1, "1 of 3 rows (33.3%)"),
        (list(range(7)), 0.1, 1, "1 of 7 rows (14.3%)"),
        (list(range(37)), 0.1, 4, "4 of 37 rows (10.8%)"),
        (list(range(100)), 0.1, 10, "10 of 100 rows (10.0%)"),
        (list(range(100)), 0.25, 25, "25 of 100 rows (25.0%)"),
        (list(range(10)), 0.9, 9, "9 of 10 rows (90.0%)"),
        (list(range(2)), 0.99, 1, "1 of 2 rows (50.0%)"),
        (list(range(10)), 0, 0, "no validation: --validation-split is 0"),
        ([5] * 40, 0.1, 0, "no validation: all 40 rows have the same prompt"),
        ([1] * 5 + [2] * 5, 0.1, 5, "stay together"),
        ([1] * 900 + list(range(2, 102)), 0.1, 50, "50 of 1,000 rows (5.0%), though 10.0% was asked for"),
    ],
)
def test_small_and_awkward_data(prompts, share, held, reason):
    found = make(*groups(prompts), share=share)
    assert len(found.validation) == held
    assert reason in found.reason
    assert len(found.train) == len(prompts) - held


@given(
    prompts=st.lists(st.integers(0, 12), max_size=40),
    share=st.sampled_from([0.05, 0.1, 0.2, 0.5, 0.8]),
    seed=st.integers(0, 2**32),
    max_examples=st.none() | st.integers(1, 50),
)
def test_split_is_a_partition_by_prompt(prompts, share, seed, max_examples):
    prompt_keys, row_keys = groups(prompts)
    found = make(prompt_keys, row_keys, share, seed, max_examples)
    both = np.concatenate([found.train, found.validation])
    expected = len(prompts) if max_examples is None else min(len(prompts), max_examples)
    assert len(set(both.tolist())) == len(both) == expected
    assert set(both.tolist()) <= set(range(len(prompts)))
    assert found.train.tolist() == sorted(found.train.tolist())
    assert found.validation.tolist() == sorted(found.validation.tolist())
    assert not set(prompt_keys[found.train]) & set(prompt_keys[found.validation])
    assert len(found.train) >= min(1, len(prompts))
    assert (len(found.validation) >= 1) == (len(set(prompt_keys[both])) >= 2)


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=8), share=st.sampled_from([0.1, 0.2, 0.3, 0.5]))
def test_the_share_is_as_close_as_whole_prompts_allow(sizes, share):
    prompts = [prompt for prompt, size in enumerate(sizes) for _ in range(size)]
    found = make(*groups(prompts), share=share)
    target = max(1, round(share * len(prompts)))
    most = max(1, len(sizes) // 2, int(share * len(sizes)))
    sums = [
        (abs(sum(chosen) - target), len(chosen))
        for number in range(1, len(sizes))
        for chosen in itertools.combinations(sizes, number)
    ]
    best = min(distance for distance, _ in sums)
    if all(number <= most for distance, number in sums if distance == best):
        assert abs(len(found.validation) - target) == best


@given(st.permutations(range(60)))
def test_the_same_rows_in_another_order_split_the_same(order):
    prompt_keys, row_keys = groups([i // 2 for i in range(60)])
    sides = []
    for rows in (np.arange(60), np.array(order)):
        found = make(prompt_keys[rows], row_keys[rows], max_examples=40)
        sides.append((set(row_keys[rows][found.train]), set(row_keys[rows][found.validation])))
    assert sides[0] == sides[1]


def test_the_seed_decides():
    data = groups(list(range(200)))
    assert make(*data, seed=1).validation.tolist() == make(*data, seed=1).validation.tolist()
    assert make(*data, seed=1).validation.tolist() != make(*data, seed=2).validation.tolist()


def test_max_examples_is_a_sample_taken_after_duplicates_are_dropped():
    prompts, rows = keys([chat(f"q {i // 2}", "a") for i in range(200)])
    found = make(prompts, rows, max_examples=50)
    assert found.duplicates == 100
    assert len(found.train) + len(found.validation) == 50
    assert found.train.max() > 100, "the sample reaches into the whole file"


def test_a_given_validation_file_loses_what_is_trained_on():
    prompts, rows = keys([chat(f"q {i}", "a") for i in range(20)])
    given_keys, _ = keys([chat("Q 3!", "b"), chat("new", "c"), chat("q 7", "a")])
    found = make(prompts, rows, given_validation_keys=given_keys)
    assert found.train.tolist() == list(range(20))
    assert found.validation.tolist() == [1]
    assert found.overlap == 2
    assert found.reason == "1 given validation row, without 2 whose prompt is also trained on"


def test_a_given_validation_file_that_is_all_leaks():
    prompts, rows = keys([chat("q", "a")])
    found = make(prompts, rows, given_validation_keys=prompts)
    assert (len(found.validation), found.overlap) == (0, 1)
    assert found.reason.startswith("no validation: ")


@pytest.mark.parametrize(("share", "most"), [(1, None), (-0.1, None), (2.5, None), (0.1, 0), (0.1, -3)])
def test_nonsense_is_refused(share, most):
    with pytest.raises(UsageError, match=r"--(validation-split|max-examples) "):
        make(*groups([1, 2, 3]), share=share, max_examples=most)


def test_a_million_rows_of_awkward_sizes_split_quickly():
    """All sizes even and different, an odd target: the exact search has to run, and may not be off by more than one."""
    prompt_keys = np.repeat(np.arange(990, dtype=np.uint64), np.arange(2, 1982, 2))
    found = make(prompt_keys, np.arange(len(prompt_keys), dtype=np.uint64))
    target = round(len(prompt_keys) * 0.1)
    assert target % 2 == 1
    assert abs(len(found.validation) - target) == 1
