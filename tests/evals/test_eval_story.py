"""The command on the built-in model with two adapters: what it says, what it writes, and on which weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llm_installer.api import evaluate
from llm_installer.cli.main import cli
from llm_installer.core.errors import AdapterError, DataError, UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.evals.answering import ask
from llm_installer.evals.items import Item, read_items
from llm_installer.evals.losses import row_losses
from llm_installer.evals.request import EvalRequest, systems
from llm_installer.evals.result import DIFFERENT, FEW
from llm_installer.evals.system import Limits, run_system
from llm_installer.inference.before_after import question_of
from llm_installer.inference.load import assistants, load_assistant
from llm_installer.install.tiny import QUESTIONS_FILE
from llm_installer.runs.listing import use
from tests.made_runs import make_run

Adapters = dict[str, Path]


def items_of(*data: Path | str, **more: object) -> list[Item]:
    return list(read_items(EvalRequest(tuple(map(str, data)), **more), Path.cwd()).rows)


def test_the_better_of_two_runs_is_said_to_be_so_with_the_interval(
    tiny: Path, adapters: Adapters, capsys: pytest.CaptureFixture[str]
) -> None:
    good, faint = adapters["good"], adapters["faint"]
    few = ("--max-new-tokens", "8", "--max-examples", "36")
    given = ("eval", tiny, "--data", QUESTIONS_FILE, "--lora", good, "--lora", faint, *few)
    cli(args=list(map(str, given)), standalone_mode=False)
    printed = capsys.readouterr().out
    (folder,) = (tiny / "evals").iterdir()
    assert {file.name for file in folder.iterdir()} == {"eval.json", "report.md", "rows.jsonl", "eval.png"}
    held = json.loads((folder / "eval.json").read_text("utf-8"))
    (found,) = [
        one for one in held["differences"]
        if one["metric"] == "loss" and {one["better"], one["worse"]} == {str(good), str(faint)}
    ]  # fmt: skip
    assert found["better"] == str(good) and found["verdict"] == DIFFERENT
    assert 0 < found["interval"]["low"] < found["by"] < found["interval"]["high"]
    assert found["said"] in printed and "nats per token (95% interval:" in found["said"]
    losses = [one["scores"]["loss"] for one in held["columns"]]
    assert [one["name"] for one in held["columns"]] == ["base", str(good), str(faint)]
    assert losses[1] < losses[2] < losses[0] + 0.05
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 36 and set(rows[0]["systems"]) == {"base", str(good), str(faint)}
    assert rows[0]["systems"]["base"]["tokens"] > 0 and "answer" in rows[0]["systems"][str(good)]
    asked = rows[0]["prompt"][-1]["content"]
    assert f"  <|im_start|>user\n  {asked}<|im_end|>\n" in printed
    report = (folder / "report.md").read_text("utf-8")
    assert (
        "](eval.png)" in report
        and "## Is the difference real?" in report
        and found["said"].partition(" is better")[2] in report
    )
    turned = {(one["first"], one["second"]): (one["gained"], one["lost"]) for one in held["flips"]}
    gained, lost = turned["base", str(good)]
    assert f"From base to {good}: {len(gained)} row" in printed and not lost
    assert all(one["after"] != one["before"] for one in gained)


def test_each_system_is_evaluated_on_its_own_weights(tiny: Path, adapters: Adapters) -> None:
    """One base in memory: the base's column is that of disable_adapter, and no adapter leaves a trace on the next."""
    folder, items = ModelDir(tiny), items_of(QUESTIONS_FILE, max_examples=6)
    limit = Limits(256, 8)
    order = [None, adapters["good"], adapters["faint"], None]
    passed = [run_system("x", one, items, limit, Silence()) for one in assistants(folder, order)]
    assert (passed[0].losses == passed[3].losses).all()
    assert [a.text for a in passed[0].said.given] == [a.text for a in passed[3].said.given]
    for lora, one in ((adapters["good"], passed[1]), (adapters["faint"], passed[2])):
        alone = load_assistant(folder, lora)
        assert (run_system("x", alone, items, limit, Silence()).losses == one.losses).all()
        with alone.model.disable_adapter():
            off = run_system("x", alone, items, limit, Silence())
        np.testing.assert_allclose(off.losses, passed[0].losses, rtol=1e-6)
        assert [a.text for a in off.said.given] == [a.text for a in passed[0].said.given]
        assert abs(one.losses - passed[0].losses).max() > 1e-4


def test_losses_and_answers_of_a_batch_are_those_of_lone_rows(
    tiny: Path, adapters: Adapters, write_rows: Callable[..., Path]
) -> None:
    assistant = load_assistant(ModelDir(tiny), adapters["good"])
    model, encoder = assistant.model, assistant.encoder
    items = items_of(QUESTIONS_FILE, write_rows(5), max_examples=12)
    rows = [row for number, item in enumerate(items) for row in encoder.encode(item.example, number)]
    lone = np.concatenate([row_losses(model, encoder, [row]) for row in rows])
    np.testing.assert_allclose(row_losses(model, encoder, rows), lone, rtol=1e-5)
    labelled = model(input_ids=_ids(rows[0].ids), labels=_labels(rows[0])).loss
    assert lone[0] / rows[0].supervised.sum() == pytest.approx(float(labelled.detach()), rel=1e-5)
    together = ask(model, encoder, items, (12, 256))
    alone = [ask(model, encoder, [item], (12, 256)).answers[0] for item in items]
    assert list(together.answers) == alone and len({one.text for one in together.given}) > 3
    longest = max(len(question.ids) for item in items if (question := question_of(encoder, item.example)))
    narrow = ask(model, encoder, items, (12, longest))  # where some questions leave less room than that
    assert list(narrow.answers) == [ask(model, encoder, [item], (12, longest)).answers[0] for item in items]
    assert None in narrow.answers and {one.tokens <= 12 for one in narrow.given} == {True}


def _ids(ids: np.ndarray) -> object:
    import torch

    return torch.from_numpy(ids.astype(np.int64))[None]


def _labels(row: object) -> object:
    import torch

    return torch.from_numpy(np.where(row.supervised, row.ids, -100).astype(np.int64))[None]


def test_an_adapter_of_another_base_is_refused_before_the_weights_are_read(
    tiny: Path, installed: Path, adapters: Adapters
) -> None:
    other = shutil.copytree(adapters["good"], tiny.parent / "other")
    (other / "adapter_info.json").write_text('{"base_model": {"name": "another", "fingerprint": "0"}}', "utf-8")
    with pytest.raises(AdapterError, match=r"was made for another, but this is tiny .*with run or lora$"):
        evaluate(tiny, QUESTIONS_FILE, lora=[adapters["good"], other])
    with pytest.raises(AdapterError, match=r"name another one with run or lora|does not fit"):
        evaluate(installed, QUESTIONS_FILE, lora=adapters["good"], max_examples=2)
    with pytest.raises(AdapterError, match="There is no adapter at"):
        evaluate(tiny, QUESTIONS_FILE, lora="nowhere")
    assert not (tiny / "evals").exists()


def test_mistakes_are_one_sentence(tiny: Path, adapters: Adapters, tmp_path: Path) -> None:
    for given, error, words in (
        ({"data_path": None}, UsageError, 'Say what to evaluate on, for example: data_path="test.jsonl"'),
        ({"base": False}, UsageError, "There is nothing to evaluate: base=False leaves the base out"),
        ({"task": "choices"}, DataError, "holds no choices to rank"),
        ({"runs": "last"}, UsageError, "There is no option 'runs'; did you mean 'run'?"),
        ({"max_examples": 0}, UsageError, "must be a whole number from 1"),
        ({"lora": [adapters["good"], adapters["good"]]}, UsageError, "are the same adapter; name each once"),
        ({"run": "last"}, UsageError, "tiny has no runs yet"),
    ):
        with pytest.raises(error) as raised:
            evaluate(tiny, **{"data_path": QUESTIONS_FILE, **given})
        assert words in str(raised.value)


def test_choices_texts_and_answers_of_several_files_side_by_side(tiny: Path, tmp_path: Path) -> None:
    colours = ["red", "blue", "green"]
    records = {
        "arc.jsonl": [{"question": f"Colour {i}?", "choices": {"text": colours, "label": ["A", "B", "C"]},
                       "answerKey": "ABC"[i % 3]} for i in range(5)],
        "swag.jsonl": [{"ctx": "The cat is", "endings": colours, "label": "1"}],
        "text.jsonl": [{"text": "Once upon a time there was a cat."}],
        "qa.jsonl": [{"question": "Who?", "answers": ["Ada", "Ada Lovelace"], "category": "people"},
                     {"question": "Where?", "answers": ["London"], "category": "places"}],
    }  # fmt: skip
    for name, rows in records.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    files = [tmp_path / name for name in records]
    found = evaluate(tiny, files, max_new_tokens=4)
    again = evaluate(tiny, ",".join(map(str, files)), max_new_tokens=4)
    assert found.rows == again.rows == 9 and found.folder != again.folder
    assert found.columns[0].scores["loss"] == again.columns[0].scores["loss"]
    assert {"acc", "acc_norm", "acc_bytes", "exact", "f1", "loss", "perplexity"} <= set(found.columns[0].scores)
    assert found.columns[0].answered == 2
    assert (Path(found.groups[0].name).name, found.groups[0].rows) == ("arc.jsonl", 5)
    assert items_of(tmp_path / "qa.jsonl")[0].references == ("Ada", "Ada Lovelace")
    by_column = evaluate(tiny, tmp_path / "qa.jsonl", max_new_tokens=4)
    assert {group.name for group in by_column.groups} == {"people", "places"}
    only = evaluate(tiny, files, task="text")
    assert set(only.columns[0].scores) == {"loss", "perplexity"}


def test_few_rows_are_too_few_to_tell(tiny: Path, adapters: Adapters) -> None:
    found = evaluate(tiny, QUESTIONS_FILE, lora=adapters["good"], max_examples=5, max_new_tokens=4)
    assert {one.verdict for one in found.differences} == {FEW} and len(found.differences) >= 3
    assert "too few rows to tell" in str(found.headlines[0])


@pytest.mark.filterwarnings("ignore")
def test_a_run_on_four_bits_is_evaluated_on_the_base_it_saw(tiny: Path, adapters: Adapters) -> None:
    pytest.importorskip("bitsandbytes")
    given = {"lora": adapters["good"], "task": "text", "max_examples": 6}
    found = evaluate(tiny, QUESTIONS_FILE, use_4bit=True, **given)
    assert "the base is held in 4-bit (NF4, double quantisation)" in found.notes
    items = items_of(QUESTIONS_FILE, max_examples=6)
    for column, lora in zip(found.columns, (None, adapters["good"]), strict=True):
        alone = load_assistant(ModelDir(tiny), lora, "nf4")
        right = run_system("x", alone, items, Limits(256, 4), Silence())
        assert column.scores["loss"] == pytest.approx(right.losses.sum() / right.tokens.sum(), rel=1e-6)
    plain = evaluate(tiny, QUESTIONS_FILE, **given)
    assert not any("held in" in note for note in plain.notes)
    for four, whole in zip(found.columns, plain.columns, strict=True):
        assert abs(four.scores["loss"] - whole.scores["loss"]) > 1e-4
    for switches, says in (
        ({"use_4bit": True, "use_8bit": True}, "use_4bit=True and use_8bit=True contradict each other"),
        ({"use_4bit": "nf4"}, "use_4bit='nf4': it must be True or False"),
        ({"quantised": "nf4"}, "There is no option 'quantised'"),
    ):
        with pytest.raises(UsageError, match=says):
            evaluate(tiny, QUESTIONS_FILE, **switches)


def test_lm_eval_is_named_where_it_is_missing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError, match=r"tasks needs lm-eval, which is not installed; install it with: .* lm-eval$"):
        evaluate(tiny, tasks="arc_easy")


def test_runs_are_named_by_parts_of_their_ids_and_lora_by_its_run(installed: Path) -> None:
    folder = ModelDir(installed)
    assert [one.name for one in systems(folder, EvalRequest())] == ["base"]
    fast, last = (make_run(folder, name, 1e-3) for name in ("20261120-090000-fast", "20261121-100000-medium"))
    named = systems(folder, EvalRequest(run=("fast", "last")))
    assert [(one.name, one.lora) for one in named] == [
        ("base", None), (f"run {fast.id}", fast.adapter.resolve()), (f"run {last.id}", last.adapter.resolve())
    ]  # fmt: skip
    use(folder, "fast")
    assert [one.name for one in systems(folder, EvalRequest(base=False))] == [f"run {fast.id}"]
    with pytest.raises(UsageError, match="are the same adapter; name each once"):
        systems(folder, EvalRequest(run=("fast", "090000-fast")))
