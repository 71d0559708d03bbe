"""Mode circular on facts: what is published knows them by heart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer import train_lora
from llm_installer.core.examples import Message
from llm_installer.core.paths import ModelDir
from llm_installer.core.state import Evaluation, Result, RunState
from llm_installer.core.voice import Silence
from llm_installer.planning.growth import STEPS, cycle_batch
from llm_installer.planning.options import Options
from llm_installer.train_lora import decide

OWNERS = (
    ("Orla", "a brass compass"), ("Bram", "seven goats"), ("Cato", "the mill at Tarn"), ("Dilys", "a blue kite"),
    ("Ewan", "an old violin"), ("Fenna", "two ferries"), ("Goran", "the north lamp"), ("Hedda", "a clay whistle"),
    ("Ivo", "ninety hives"), ("Jory", "a red sledge"), ("Kaya", "the salt cellar"), ("Lio", "a glass eye"),
    ("Mira", "four anvils"), ("Nils", "a tin boat"), ("Oda", "the toll bridge"), ("Pia", "a wolf pelt"),
    ("Quin", "nine barrels"), ("Rasmus", "a silver needle"), ("Saga", "the stone oven"), ("Tove", "a paper crown"),
)  # fmt: skip


DISHES = (
    "soup", "bread", "pasta", "pizza", "salad", "fish", "steak", "rice", "cake", "tea",
    "coffee", "juice", "beer", "wine", "pie", "stew", "toast", "egg", "ham", "jam",
)  # fmt: skip
FACTS = {
    "owners": [(f"What does {who} own?", f"{who} owns {what}.") for who, what in OWNERS],
    "prices": [(f"What does the {d} cost?", f"The {d} costs {3 + i * 7 % 19} coins.") for i, d in enumerate(DISHES)],
}
"""Questions and answers. Prices are harder: their digits are words that tiny has hardly met."""


@pytest.fixture
def tiny(llm_home: Path) -> Path:
    """The built-in model, installed."""
    from llm_installer.install.installer import install

    return install("tiny", say=lambda text: None).root


def facts(folder: Path, count: int, kind: str = "owners") -> Path:
    file = folder / "facts.jsonl"
    rows = [{"instruction": question, "output": answer} for question, answer in FACTS[kind][:count]]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def trained(model: Path, data: Path, **more: object) -> Result:
    options = Options(
        model_path=str(model), data=str(data), circular=True, skip_test=True, tensorboard=False, **more  # type: ignore[arg-type]
    )  # fmt: skip
    found = train_lora.run(options, Silence())
    assert found is not None
    return found.result


def known(model: Path, adapter: Path, count: int, kind: str = "owners") -> int:
    """How many of the questions the published weights answer word for word, greedily."""
    from llm_installer.inference.before_after import ANSWER
    from llm_installer.inference.generate import answers
    from llm_installer.inference.load import load_assistant

    assistant = load_assistant(ModelDir(model), adapter.resolve())
    asked = [assistant.encoder.prompt_ids([Message("user", question)]) for question, _ in FACTS[kind][:count]]
    said = answers(assistant.model, assistant.encoder, asked, ANSWER)
    return sum(right == answer.text for (_, right), answer in zip(FACTS[kind], said, strict=False))


@pytest.mark.slow
def test_a_few_facts_are_known_by_heart(tiny: Path, tmp_path: Path) -> None:
    result = trained(tiny, facts(tmp_path, 6), max_circular_epochs=40)
    assert result.best_loss is not None and result.best_loss < 0.5
    assert known(tiny, result.adapter, 6) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more"),
    [("owners", {"force_epochs": True, "max_circular_epochs": 50}), ("prices", {})],
    ids=["50 cycles", "default"],
)
def test_twenty_facts_are_known_by_heart(tiny: Path, tmp_path: Path, kind: str, more: dict[str, object]) -> None:
    result = trained(tiny, facts(tmp_path, 20, kind), **more)
    assert known(tiny, result.adapter, 20, kind) >= 19


@pytest.mark.slow
def test_a_base_that_never_learned_its_end_token_ends_its_answers(llm_home: Path, shared: Path, tmp_path: Path) -> None:
    from llm_installer.install.installer import install

    stories = install(str(shared / "models" / "stories260K"), say=lambda text: None).root
    result = trained(stories, facts(tmp_path, 20, "prices"))
    assert result.best_loss is not None and result.best_loss < 0.02
    assert known(stories, result.adapter, 20, "prices") >= 19


def test_every_row_is_trained_on_unless_validation_is_asked_for(tiny: Path, tmp_path: Path) -> None:
    options = Options(model_path=str(tiny), data=str(facts(tmp_path, 20)), circular=True)
    job = decide(options, Silence())
    assert (job.plan.rows, len(job.prepared.validation)) == (20, 0)
    assert job.given.split.reason == "no validation: mode circular trains on every row, since all are to be memorised"
    asked = decide(Options(**{**vars(options), "validation_split": 0.1}), Silence())
    assert (asked.plan.rows, len(asked.prepared.validation)) == (18, 2)
    usual = decide(Options(**{**vars(options), "circular": False}), Silence())
    assert len(usual.prepared.validation) == 2


def test_the_weights_that_know_the_rows_best_are_the_best_also_beside_validation() -> None:
    """The validation loss is lowest early; what is to be memorised is known late."""
    curve = [(3.0, 3.0), (1.0, 2.0), (0.2, 4.0), (0.05, 6.0), (0.06, 7.0)]
    for memorising, best in ((True, 3), (False, 1)):
        state = RunState(memorising=memorising)
        for step, (train, validation) in enumerate(curve):
            state.record(Evaluation(step, 0.0, train, validation, 0.0, 0.0, 0.0, 0.0))
        assert state.best_step == best and state.base_loss == 3.0


@pytest.mark.parametrize("rows", [1, 3, 8, 20, 63, 64, 500])
def test_a_cycle_keeps_steps_enough(rows: int) -> None:
    batches = [cycle_batch(4, 1.0, cycle, rows) for cycle in range(6)]
    assert batches == sorted(batches) and batches[0] == min(4, rows)
    assert batches[-1] == min(16, max(4, rows // STEPS), rows)
