"""What is measured after a run: base and tuned by the same rows, each row's loss, and what was forgotten."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llm_installer.core.state import RunState
from llm_installer.data.encoding.encode import Encoder
from llm_installer.models.base import add_lora, load_base
from llm_installer.training.evaluation import (
    MOST_ROWS,
    Side,
    choose_side,
    evaluate_changes,
    general_rows,
    general_sentences,
    row_losses,
)
from llm_installer.training.measured import measure
from llm_installer.training.own_text import OwnText
from llm_installer.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


@pytest.fixture
def trainer(tiny_llama: Path, plan_for: Callable) -> Trainer:
    plan = plan_for(40, lora_dropout=0.5, micro_batch_tokens=128)
    return Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)


def shake(trainer: Trainer, by: float) -> None:
    """Give every B something to say, as a training of that size would."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn_like(weight) * by)


def test_with_b_zero_both_columns_are_equal(trainer: Trainer, encoder: Encoder, make_rows: Callable) -> None:
    rows = make_rows(20)
    found = evaluate_changes(trainer, encoder, Side(rows[:10], rows[10:15]), Side(rows[15:]))
    assert found.validation is not None
    for pair in (found.training, found.validation, found.general):
        assert pair.tuned == pytest.approx(pair.base, abs=1e-6)
    assert (found.training.rows, found.validation.rows, found.general.rows, len(found.rows)) == (10, 5, 30, 20)
    assert all(row.tuned == pytest.approx(row.base, abs=1e-6) for row in found.rows)


def test_the_columns_are_what_an_evaluation_measures(trainer: Trainer, encoder: Encoder, make_rows: Callable) -> None:
    rows = make_rows(12)
    base = measure(trainer, rows, print).loss
    shake(trainer, 0.1)
    tuned = measure(trainer, rows, print).loss
    found = evaluate_changes(trainer, encoder, Side(rows), Side([]))
    assert (found.training.base, found.training.tuned) == (
        pytest.approx(base, rel=1e-5),
        pytest.approx(tuned, rel=1e-5),
    )
    assert found.validation is None and tuned != base


def test_each_row_gets_its_own_loss_in_any_company(trainer: Trainer, make_rows: Callable) -> None:
    rows = make_rows(30)
    alone = [float(row_losses(trainer, [row])[0]) for row in rows]
    assert row_losses(trainer, rows).tolist() == pytest.approx(alone, rel=1e-4)


def test_packed_rows_get_their_own_losses_too(tiny_llama: Path, plan_for: Callable, make_rows: Callable) -> None:
    rows, found = make_rows(9), []
    for packing in (False, True):
        plan = plan_for(9, micro_batch_tokens=200, packing=packing)
        trainer = Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)
        assert bool(trainer.packing) is packing
        found.append(row_losses(trainer, rows).tolist())
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_rows_are_the_worst_first_and_pieces_of_one_example_are_one(
    trainer: Trainer, encoder: Encoder, make_rows: Callable
) -> None:
    rows = [dataclasses.replace(row, source=i // 2) for i, row in enumerate(make_rows(10))]
    shake(trainer, 0.3)
    found = evaluate_changes(trainer, encoder, Side(rows), Side([])).rows
    assert sorted(row.source for row in found) == [0, 1, 2, 3, 4]
    assert [row.tuned for row in found] == sorted((row.tuned for row in found), reverse=True)


def test_a_loss_that_is_no_number_comes_first(trainer: Trainer, encoder: Encoder, make_rows: Callable) -> None:
    shake(trainer, float("nan"))
    found = evaluate_changes(trainer, encoder, Side(make_rows(3)), Side([]))
    assert found.rows[0].tuned != found.rows[0].tuned and found.rows[0].base > 0


def test_measuring_draws_nothing_at_random(trainer: Trainer, encoder: Encoder, make_rows: Callable) -> None:
    before = torch.get_rng_state()
    evaluate_changes(trainer, encoder, Side(make_rows(3)), Side([]))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("rows", "fixed", "tokens", "expected"),
    [
        (300, 10, 10_000_000, MOST_ROWS),  # a long run: as many as there may be
        (300, 10, 10, 10),  # a very short one: those that every evaluation measured
        (300, 300, 10, MOST_ROWS),
        (30, 10, 10_000_000, 30),
    ],
)
def test_how_many_rows_are_looked_at(make_rows: Callable, rows: int, fixed: int, tokens: int, expected: int) -> None:
    made = [dataclasses.replace(row, source=i) for i, row in enumerate(make_rows(rows))]
    side = choose_side(made, made[:fixed], 1, RunState(tokens=tokens))
    found = [*side.fixed, *side.more]
    assert len(found) == len({row.source for row in found}) == expected


def test_a_long_run_may_be_looked_at_longer(make_rows: Callable) -> None:
    made = [dataclasses.replace(row, source=i) for i, row in enumerate(make_rows(60))]
    short, long = (choose_side(made, made[:1], 1, RunState(tokens=tokens)) for tokens in (2000, 4000))
    assert 0 < len(short.more) < len(long.more) < 59


def test_the_general_text_is_plain_and_ours() -> None:
    sentences = general_sentences()
    assert len(sentences) == len(set(sentences)) == 30
    assert all(s.isascii() and s.endswith(".") and 20 < len(s) < 90 for s in sentences)


def test_ending_is_no_part_of_the_general_text(encoder: Encoder) -> None:
    """A model that learned to end at once has forgotten the language; ending well must not hide it."""
    rows = general_rows(encoder)
    assert all(encoder.eos not in row.ids and row.supervised[1:].all() for row in rows)
    assert [encoder.tokenizer.decode(row.ids) for row in rows] == general_sentences()


def test_own_text_is_compared_like_the_rest(trainer: Trainer, encoder: Encoder, make_rows: Callable) -> None:
    rows = make_rows(6)
    shake(trainer, 0.3)
    found = evaluate_changes(trainer, encoder, Side(rows), Side([]), OwnText(rows, ""))
    assert found.own == found.training and found.own.error > 0 and 0 < found.general.error < math.inf
    without = evaluate_changes(trainer, encoder, Side(rows), Side([]), OwnText(why_none="it is late"))
    assert (without.own, without.no_own) == (None, "it is late")
