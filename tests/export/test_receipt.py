"""The figures of a receipt are what they are called, and what is off is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.export.measure import Looked, compare_answers, difference
from llm_installer.export.receipt import Answers, Difference, Receipt, Rounding, problems
from tests.generated import many

NEAR = Difference(1e-5, 1e-12, 1.0, 1.0, 200)
FAR = Difference(3.0, 0.5, 0.6, 0.7, 200)
GOOD = Receipt("merge", "float32", "float32", "a few", NEAR, FAR, FAR, Answers(4, 4, 0), True, Rounding(9, 0))


@settings(max_examples=many(50), deadline=None)
@given(st.integers(1, 40), st.integers(2, 30), st.floats(0, 3), st.integers(0, 999))
def test_the_divergence_is_that_of_torch(positions: int, tokens: int, apart: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(positions, tokens, generator=generator)
    other = one + apart * torch.randn(positions, tokens, generator=generator)
    found = difference(one, other, 1e-3)
    p, q = one.double().log_softmax(-1), other.double().log_softmax(-1)
    exact = torch.nn.functional.kl_div(q, p, log_target=True, reduction="batchmean")
    assert found.kl == pytest.approx(float(exact), rel=1e-6, abs=1e-12) and found.kl > -1e-12
    assert found.largest_logit == pytest.approx(float((one - other).abs().max()), rel=1e-6)
    assert 0 <= found.same_top <= found.decided <= 1 or found.decided >= 0
    assert difference(one, one, 1e-3) == Difference(0.0, 0.0, 1.0, 1.0, positions)


@pytest.mark.parametrize(
    ("mine", "yours", "gaps", "expected"),
    [
        ((1, 2, 3), (1, 2, 3), (9, 9, 9, 9), (1, 0, 0)),
        ((1, 2, 3), (1, 5, 3), (9, 1e-4, 9, 9), (0, 1, 0)),
        ((1, 2, 3), (1, 5, 3), (9, 1e-2, 9, 9), (0, 0, 1)),
        ((1, 2, 3), (1, 2), (9, 9, 1e-4, 9), (0, 1, 0)),
        ((1, 2), (1, 2, 7), (9, 9, 1e-4), (0, 1, 0)),
        ((), (4,), (3.0,), (0, 0, 1)),
    ],
)
def test_answers_may_differ_from_a_near_tie_on(
    mine: Sequence[int], yours: Sequence[int], gaps: Sequence[float], expected: tuple[int, int, int]
) -> None:
    looked = Looked((tuple(mine),), torch.zeros(1, 2), None, (tuple(gaps),))
    found = compare_answers(["hello"], looked, [yours], 1e-3)
    assert (found.equal, found.near_ties, len(found.different)) == expected


@pytest.mark.parametrize(
    ("receipt", "said"),
    [
        (GOOD, []),
        (replace(GOOD, tokens_equal=False), ["the prompts are other tokens"]),
        (replace(GOOD, tuned=replace(NEAR, kl=1e-5)), ["it is 1e-05 nats per token away from the tuned model"]),
        (replace(GOOD, tuned=replace(NEAR, kl=1e-5), dtype="bfloat16"), []),
        (replace(GOOD, tuned=replace(NEAR, kl=float("nan"))), ["it is nan nats per token away"]),
        (replace(GOOD, tuned=replace(NEAR, same_top=0.99, decided=0.995)), ["another one at 1.0% of the positions"]),
        (replace(GOOD, tuned=replace(NEAR, same_top=0.99)), []),
        (replace(GOOD, answers=Answers(4, 3, 0, ("Who?",))), ["it answers 'Who?' in other words"]),
        (replace(GOOD, answers=Answers(4, 3, 1)), []),
        (
            replace(GOOD, dtype="bfloat16", tuned=replace(NEAR, kl=2e-4), trained=replace(FAR, kl=3e-4)),
            ["too little survives the rounding to bfloat16"],
        ),
    ],
)
def test_what_is_off_is_said(receipt: Receipt, said: list[str]) -> None:
    found = list(problems(receipt))
    assert len(found) == len(said) and all(part in text for part, text in zip(said, found, strict=True))


def test_the_nearer_base_is_the_one_with_the_smaller_divergence() -> None:
    assert replace(GOOD, as_trained={"full": FAR, "dequantised": NEAR}).nearer == "dequantised"
    assert GOOD.nearer == ""
