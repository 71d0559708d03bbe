"""Evaluations by groups of rows, and what of a change in them is noise."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llm_installer.models.base import add_lora, load_base
from llm_installer.training.measured import GROUPS, Measured, grouped, measure, standard_error
from llm_installer.training.trainer import Trainer
from tests.training.test_evaluation import shake

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


@pytest.fixture
def trainer(tiny_llama: Path, plan_for: Callable) -> Trainer:
    plan = plan_for(40, micro_batch_tokens=128)
    return Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)


def test_the_standard_error_is_that_of_samples_drawn_again() -> None:
    """Of many samples of 40 clusters, as far apart as the formula says of each."""
    draw = np.random.default_rng(1)

    def drawn() -> tuple[float, float]:
        tokens = draw.integers(5, 90, 40).astype(float)
        rises = tokens * (0.5 + draw.normal(0, 0.4, 40)) + draw.normal(0, 1, 40) * np.sqrt(tokens)
        return float(rises.sum() / tokens.sum()), standard_error(rises, tokens)

    found = np.array([drawn() for _ in range(400)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.15)


def test_one_example_tells_nothing_about_noise() -> None:
    assert standard_error(np.ones(1), np.ones(1)) == math.inf
    assert Measured(np.ones(1), np.ones(1)).noise([2.0]) == 0.0


def test_rises_that_are_all_alike_have_no_noise() -> None:
    tokens = np.array([3.0, 9.0, 4.0])
    assert standard_error(0.7 * tokens, tokens) == pytest.approx(0, abs=1e-9)


def test_noise_is_of_the_change_not_of_the_rows() -> None:
    """Rows that are hard stay hard: what counts is whether all of them change alike."""
    draw, tokens = np.random.default_rng(2), np.full(GROUPS, 50.0)
    before = tokens * draw.uniform(1, 9, GROUPS)
    alike, apart = before + 0.3 * tokens, before + draw.normal(0.3, 0.5, GROUPS) * tokens
    assert Measured(alike, tokens).noise(before.tolist()) < 1e-6
    assert 0.1 < Measured(apart, tokens).noise(before.tolist()) < 0.9
    assert Measured(apart, tokens).noise([]) == 0.0, "there is nothing to compare with"
    for broken in (math.nan, math.inf):
        assert Measured(apart * broken, tokens).noise(before.tolist()) == 0.0
        assert Measured(apart, tokens).noise((before * broken).tolist()) == 0.0


def test_rows_of_one_example_are_in_one_group(make_rows: Callable) -> None:
    rows = [replace(row, source=i // 3) for i, row in enumerate(make_rows(36))]
    of = grouped(rows, GROUPS)
    assert of.tolist() == [i // 3 % GROUPS for i in range(36)]
    assert grouped(rows[:4], GROUPS).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("count", [1, 3, 8, 21])
def test_groups_add_up_to_the_whole(trainer: Trainer, make_rows: Callable, count: int) -> None:
    rows = make_rows(count)
    shake(trainer, 0.3)
    whole, grouped = (measure(trainer, rows, print, groups) for groups in (1, GROUPS))
    assert len(grouped.sums) == min(GROUPS, count)
    assert grouped.loss == pytest.approx(whole.loss, rel=1e-6)
    for g in range(len(grouped.sums)):
        own = measure(trainer, rows[g::GROUPS], print)
        assert (grouped.sums[g], grouped.tokens[g]) == (pytest.approx(own.sums[0], rel=1e-6), own.tokens[0])
