"""What is called different is different: false alarms and power on simulated pairs, and textbook values."""

from __future__ import annotations

import numpy as np
import pytest

from llm_installer.evals.result import DIFFERENT, FEW, SAME, Difference, Interval
from llm_installer.evals.statistics import holm, resample, wilson

DRAWS = 2000
"""Fewer than the product's: there are many simulations, and their share is what is looked at."""


def pair(random: np.random.Generator, rows: int, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(sums, counts, prompts, standard error): two systems' losses on rows of several lengths, in pairs of one prompt;
    the second is better by `shift` standard errors."""
    tokens = random.integers(5, 50, rows).astype(float)
    prompts = np.arange(rows) // 2
    hard = random.gamma(2.0, 1.0, rows)
    own = random.normal(0, 0.3, (rows, 2)) + random.normal(0, 0.2, (rows // 2, 2))[prompts]
    scale = np.bincount(prompts, tokens * 1.0)
    error = np.sqrt(2 * ((tokens**2).sum() * 0.09 + (scale**2).sum() * 0.04)) / tokens.sum()
    losses = hard[:, None] + own - np.array([0.0, shift * error])
    return losses * tokens[:, None], np.stack([tokens, tokens], axis=1), prompts, error


def called(shift: float, seed: int, pairs: int = 400, rows: int = 120) -> float:
    """The share of simulated pairs that are called different."""
    random = np.random.default_rng(seed)
    hits = 0
    for number in range(pairs):
        sums, counts, prompts, _ = pair(random, rows, shift)
        by, interval, p, error = resample(sums, counts, prompts, number, DRAWS).difference(1, 0, -1.0)
        if by < 0:
            interval = Interval(-interval.high, -interval.low)
        found = Difference("loss", "b", "a", abs(by), interval, p, p, rows // 2, rows, 2 * error)
        hits += found.verdict == DIFFERENT
    return hits / pairs


def test_equal_systems_are_called_different_in_at_most_8_percent() -> None:
    share = called(0.0, seed=1)
    print(f"400 equal pairs: {share:.1%} called different")
    assert 0.02 <= share <= 0.08


def test_the_power_at_two_standard_errors_is_about_a_half() -> None:
    share = called(2.0, seed=2)
    print(f"400 pairs two standard errors apart: {share:.1%} called different")
    assert 0.42 <= share <= 0.62


def test_rows_of_one_prompt_are_no_independent_ones() -> None:
    random = np.random.default_rng(0)
    apart = np.repeat(random.normal(0, 1, 40), 10)
    sums, counts = np.stack([np.zeros(400), apart], axis=1), np.ones((400, 2))
    alone = resample(sums, counts, np.arange(400), 0, DRAWS).difference(1, 0, 1.0)
    together = resample(sums, counts, np.repeat(np.arange(40), 10), 0, DRAWS).difference(1, 0, 1.0)
    assert together[3] / alone[3] == pytest.approx(np.sqrt(10), rel=0.1)


def test_the_value_is_a_ratio_of_sums_and_the_same_seed_draws_the_same() -> None:
    sums, counts = np.array([[2.0, 1.0], [30.0, 40.0]]), np.array([[2.0, 2.0], [10.0, 10.0]])
    one, again = (resample(sums, counts, np.arange(2), 5, 100) for _ in range(2))
    assert one.values.tolist() == [32 / 12, 41 / 12]
    assert (one.draws == again.draws).all() and len(one.draws) == 100
    assert set(np.round(one.draws[:, 0], 6)) <= {1.0, 3.0, round(32 / 12, 6)}


def test_holm_and_wilson_are_those_of_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.04]) == [0.04]
    half, none = wilson(5, 10), wilson(0, 10)
    assert (half.low, half.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert (none.low, none.high) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_a_difference_is_one_plain_sentence() -> None:
    def said(low: float, prompts: int = 60, p: float = 0.01) -> Difference:
        return Difference("loss", "run B", "run A", 0.12, Interval(low, 0.16), p, p, prompts, 60, 0.05, 3)

    assert said(0.08).verdict == DIFFERENT and str(said(0.08)) == (
        "run B is better than run A by 0.12 nats per token (95% interval: 0.08 to 0.16)"
    )
    assert said(-0.01).verdict == SAME and str(said(-0.01)) == (
        "run B and run A: no difference that 60 rows could show; they would have shown one of 0.05 nats per token"
    )
    assert "could show once 3 comparisons are allowed for; they" in str(said(0.01, p=0.06))
    assert said(0.08, prompts=29).verdict == FEW and "(29 different prompts; 30 are needed)" in str(said(0.08, 29))
