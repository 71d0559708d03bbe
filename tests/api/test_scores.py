"""Scores of answers that one has already, and what looks wrong with a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer import accuracy, f1_score, memory_usage, rouge, training_diagnostics
from llm_installer.core.errors import UsageError


def test_accuracy_and_f1_are_those_of_the_evaluation() -> None:
    said = ["The cat.", "dog", "black cat"]
    assert accuracy(said, ["cat", "cat", ["bird", "the black cat"]]) == pytest.approx(2 / 3)
    assert f1_score(said, ["cat", "cat", "cat"]) == pytest.approx((1 + 0 + 2 / 3) / 3)


def test_rouge_is_that_of_the_library() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    said, wanted = ["the cat sat on a mat", "dogs"], ["a cat sat on the mat", ["a dog", "dogs run"]]
    found = rouge(said, wanted)
    one, other = scorer.score(wanted[0], said[0]), scorer.score("dogs run", said[1])
    assert found == {name: pytest.approx((one[name].fmeasure + other[name].fmeasure) / 2) for name in one}
    unseen = rouge(["東京"], ["東京"])
    assert unseen["rougeL"] == 0 and unseen["rougeL_unicode"] == 1


def test_lists_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^There are 2 predictions and 1 references; give one for each$"):
        accuracy(["a", "b"], ["a"])
    with pytest.raises(UsageError, match="are lists of texts"):
        f1_score("a", "a")


def written(folder: Path, steps: list[tuple[float | None, float]], validation: list[float]) -> Path:
    lines = [{"kind": "step", "loss": loss, "learning_rate": rate} for loss, rate in steps]
    lines += [{"kind": "evaluation", "validation_loss": loss, "learning_rate": 1e-3} for loss in validation]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("steps", "validation", "says"),
    [
        ([(3 - i / 10, 1e-3) for i in range(20)], [3.0, 2.0], []),
        ([(2.0 + i % 2 / 10, 1e-3) for i in range(30)], [3.0, 2.9, 2.95], []),
        ([(1 + i / 10, 1e-3) for i in range(20)], [], ["The loss of the last 10 steps is 1 higher than that"]),
        ([(1.0, 1e-7)], [], ["The learning rate never exceeds 1e-07, which is hardly any training"]),
        ([(1.0, 1e-3), (None, 1e-3)], [1.0, 2.0],
         ["The loss of 1 of 2 steps is not a number", "The validation loss ended 1 above its best, 1: overfitting"]),
    ],
)  # fmt: skip
def test_what_looks_wrong_with_a_run_is_said(
    tmp_path: Path, steps: list[tuple[float | None, float]], validation: list[float], says: list[str]
) -> None:
    found = training_diagnostics(written(tmp_path, steps, validation))
    assert len(found) == len(says) and all(one.startswith(words) for one, words in zip(found, says, strict=True))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no readable metrics\.jsonl; name the folder of a run$"):
        training_diagnostics(tmp_path)


def test_memory_is_in_bytes_and_in_words() -> None:
    found = memory_usage()
    assert 0 < found.free < found.total and 0 < found.percent < 100
    assert f"({found.percent:.0f}%)" in str(found) and "GiB" in str(found)
