"""Text that the base writes: the same for the same seed, kept for a resumed run, and without a trace in the run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llm_installer.core.state import RunState
from llm_installer.data.encoding.encode import Encoder
from llm_installer.models.base import add_lora, load_base
from llm_installer.training.evaluation import Side, evaluate_changes
from llm_installer.training.own_text import BETWEEN, FEWEST, MOST, SAMPLES, document_start, own_text
from llm_installer.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
SHORT = RunState(tokens=100)


@pytest.fixture
def trainer(tiny_llama: Path, plan_for: Callable) -> Trainer:
    plan = plan_for(40, micro_batch_tokens=512)
    return Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)


def tuned(trainer: Trainer) -> Trainer:
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn_like(weight) * 0.5)
    return trainer


def test_a_tuned_model_writes_what_its_base_wrote_and_nothing_else_changes(
    trainer: Trainer, encoder: Encoder, tmp_path: Path
) -> None:
    before = own_text(trainer, encoder, SHORT, 256, tmp_path / "before.jsonl")
    tuned(trainer)
    weights = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    drawn = torch.get_rng_state()
    after = own_text(trainer, encoder, SHORT, 256, tmp_path / "after.jsonl")
    assert [row.ids.tolist() for row in after.rows] == [row.ids.tolist() for row in before.rows]
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(weight, weights[name]) for name, weight in trainer.model.state_dict().items())
    other = dataclasses.replace(trainer.plan, seed=7)
    trainer.plan = other
    again = own_text(trainer, encoder, SHORT, 256, tmp_path / "other.jsonl")
    assert [row.ids.tolist() for row in again.rows] != [row.ids.tolist() for row in before.rows]


def test_what_was_kept_is_used_again_and_a_torn_file_is_written_anew(
    trainer: Trainer, encoder: Encoder, tmp_path: Path
) -> None:
    file = tmp_path / "own.jsonl"
    first = own_text(trainer, encoder, SHORT, 256, file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["text"] == encoder.tokenizer.decode(lines[0]["ids"][1:])
    kept = lines[:20]
    file.write_text("\n".join(map(json.dumps, kept)))
    longer = own_text(trainer, encoder, RunState(tokens=10**9), 256, file)
    assert [row.ids.tolist() for row in longer.rows] == [line["ids"] for line in kept if len(line["ids"]) > 1]
    file.write_text(file.read_text()[:-9])
    assert len(own_text(trainer, encoder, SHORT, 256, file).rows) == len(first.rows)


def test_it_is_no_longer_than_the_run_and_the_model_allow(trainer: Trainer, encoder: Encoder, tmp_path: Path) -> None:
    short = own_text(trainer, encoder, SHORT, 256, tmp_path / "short")
    assert max(len(row.ids) for row in short.rows) == 1 + FEWEST // SAMPLES
    assert all(row.supervised[1:].all() and not row.supervised[0] for row in short.rows)
    long = own_text(trainer, encoder, RunState(tokens=10**9), None, tmp_path / "long")
    assert 1 + FEWEST // SAMPLES < max(len(row.ids) for row in long.rows) <= 1 + MOST // SAMPLES
    narrow = own_text(trainer, encoder, RunState(tokens=10**9), 12, tmp_path / "narrow")
    assert max(len(row.ids) for row in narrow.rows) == 12


def test_no_change_is_no_rise_and_any_change_is_one(trainer: Trainer, encoder: Encoder, tmp_path: Path) -> None:
    """The rise is a divergence: it cannot fall but by the choice of samples, and random changes do not hide in it."""
    written = own_text(trainer, encoder, SHORT, 256, tmp_path / "own")
    side = Side(written.rows)
    same = evaluate_changes(trainer, encoder, side, Side([]), written).own
    assert same and same.change == pytest.approx(0, abs=1e-6)
    moved = evaluate_changes(tuned(trainer), encoder, side, Side([]), written).own
    assert moved and moved.change > moved.noise > 0


def test_a_model_that_ends_at_once_is_no_reference(trainer: Trainer, encoder: Encoder, tmp_path: Path) -> None:
    none = own_text(trainer, encoder, SHORT, 2, tmp_path / "own")
    assert (list(none.rows), none.why_none) == ([], "it ends its texts at once")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "there is not enough memory"),
        (ValueError("this model\ncannot"), "it could not write (this model)"),
        (KeyError("cache"), "it could not write ('cache')"),
    ],
)
def test_a_family_that_cannot_write_costs_no_adapter(
    trainer: Trainer, encoder: Encoder, tmp_path: Path, error: Exception, why: str
) -> None:
    def broken(*given: object, **named: object) -> None:
        raise error

    handle = trainer.model.get_base_model().get_input_embeddings().register_forward_hook(broken)
    try:
        assert own_text(trainer, encoder, SHORT, 256, tmp_path / "own").why_none == why
    finally:
        handle.remove()
    assert not (tmp_path / "own").exists()


def test_a_document_starts_with_bos_or_what_the_model_knows_in_its_place(encoder: Encoder) -> None:
    assert encoder.tokenizer.bos_token_id is None
    assert document_start(encoder) == [encoder.tokenizer.get_vocab()[BETWEEN]]
