"""lm-eval, where it is installed: our ranking is its ranking, and tasks that it cannot use are one sentence."""

from __future__ import annotations

import json
import random
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from llm_installer import evaluate
from llm_installer.core.errors import UsageError
from llm_installer.evals.ranking import ACCURACIES, ranked

pytestmark = [
    pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm_eval is not installed"),
    pytest.mark.filterwarnings("ignore"),
]
Adapters = dict[str, Path]
PIECES = [
    "Straße",
    "Ökonomie",
    "東京",
    "大きい",
    "die Maus",
    "é",
    "ß",
    "中文字",
    "a",
    "übergroß",
    "red",
    "the blue house",
]


def test_a_choice_is_right_where_lm_eval_says_so() -> None:
    """200 cases with umlauts and Chinese against its own process_results, for every choice that might be right."""
    from lm_eval.api.task import ConfigurableTask

    made = random.Random(3)
    apart = 0
    for _ in range(200):
        choices = ["".join(made.choices(PIECES, k=made.randrange(1, 4))) for _ in range(made.randrange(2, 5))]
        sums = np.array([-made.choice([made.uniform(1, 12), float(made.randrange(1, 9))]) for _ in choices])
        chosen = ranked(sums, choices).chosen
        apart += len({*chosen.values()}) > 1
        for right in range(len(choices)):
            task = SimpleNamespace(
                config=SimpleNamespace(process_results=None),
                _metric_fn_list=dict.fromkeys(ACCURACIES),
                OUTPUT_TYPE="multiple_choice",
                multiple_input=False,
                multiple_target=False,
                doc_to_choice=lambda doc: doc["choices"],
                doc_to_target=lambda doc: doc["right"],
            )
            doc = {"choices": choices, "right": right}
            found = ConfigurableTask.process_results(task, doc, [(value, False) for value in sums])
            assert {name: float(chosen[name] == right) for name in ACCURACIES} == found
    assert apart > 40, "the three accuracies really differ"


def task(folder: Path, name: str, **more: object) -> str:
    """A task of choices that continue a text, over rows of the folder."""
    held = {
        "task": name, "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "doc_to_text": "{{ctx}}", "doc_to_choice": "endings", "doc_to_target": "label",
        "metric_list": [{"metric": metric} for metric in ACCURACIES],
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(json.dumps(held | more), "utf-8")
    return str(folder / f"{name}.yaml")


def test_a_local_task_says_of_base_and_adapter_what_our_ranking_says(
    tiny: Path, adapters: Adapters, tmp_path: Path
) -> None:
    made = random.Random(5)
    rows = []
    for i in range(24):
        endings = [" ".join(made.choices(PIECES, k=made.randrange(1, 4))) for _ in range(3)]
        rows.append({"ctx": f"{made.choice(PIECES)} is number {i}:", "endings": endings, "label": i % 3})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    # A task of its own functions is no plain YAML.
    (tmp_path / "functions.py").write_text("def same(dataset):\n    return dataset\n", "utf-8")
    file = task(tmp_path, "endings")
    Path(file).write_text(
        Path(file).read_text("utf-8").replace("{", "{process_docs: !function functions.same, ", 1), "utf-8"
    )
    found = evaluate(tiny, tmp_path / "rows.jsonl", lora=adapters["good"], tasks=file)
    assert {*found.tasks} == {"base", str(adapters["good"])}
    for column in found.columns:
        ours = {f"endings, {name}": column.scores[name] for name in ACCURACIES}
        assert found.tasks[column.name] == pytest.approx(ours), column.name


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("nofile", {"dataset_kwargs": {"data_files": {"test": "/nowhere.jsonl"}}}, "nowhere"),
        ("badkind", {"output_type": "nonsense"}, "nonsense"),
        ("badfield", {"doc_to_choice": "choicez"}, "malformed"),
        ("badkey", {"nonsense": 3}, "nonsense"),
    ],
)
def test_a_task_that_cannot_be_used_is_one_sentence(
    tiny: Path, tmp_path: Path, name: str, more: dict[str, object], says: str
) -> None:
    row = {"ctx": "a", "endings": ["b", "c"], "label": 0}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 3, "utf-8")
    with pytest.raises(UsageError) as raised:
        evaluate(tiny, tasks=task(tmp_path, name, **more))
    assert "lm-eval cannot use the task" in str(raised.value) and "\n" not in str(raised.value)
    assert says in str(raised.value) and not (tiny / "evals").exists()


@pytest.mark.slow
def test_a_name_that_lm_eval_does_not_know_is_said(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^lm-eval knows no task 'nothing_like_that'; see all of them with: "):
        evaluate(tiny, tasks="nothing_like_that")
    with pytest.raises(UsageError, match=r"There is no file .*nowhere\.yaml; give a YAML file that defines a task"):
        evaluate(tiny, tasks="nowhere.yaml")
