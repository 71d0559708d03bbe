"""Several tasks in one run: mix, prefixes, order and pieces of text, from the options to the adapter."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from llm_installer.core.errors import UsageError
from llm_installer.data.prepare import read
from llm_installer.planning.options import Options
from llm_installer.runs.job import Job
from llm_installer.train_lora import decide, run
from llm_installer.ui.console import Console


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    """100 rows in a.jsonl and 300 in b.jsonl."""
    for name, count in (("a", 100), ("b", 300)):
        rows = [{"instruction": f"{name} asks {i}?", "output": f"It is {i % 4}."} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return tmp_path


def quiet() -> tuple[Console, io.StringIO]:
    said = io.StringIO()
    return Console(rich=RichConsole(file=said, width=200)), said


def options(folder: Path, **more: object) -> Options:
    return Options(model_path=str(folder), tensorboard=False, skip_test=True, **more)  # type: ignore[arg-type]


def decided(folder: Path, base: Path, **more: object) -> tuple[Job, str]:
    console, said = quiet()
    job = decide(options(folder, **more), console, base)
    console.show(job)
    return job, said.getvalue()


def test_a_mix_changes_the_epochs_and_leaves_validation_alone(installed: Path, two_files: Path) -> None:
    plain, _ = decided(installed, two_files, data="a.jsonl,b.jsonl")
    mixed, said = decided(installed, two_files, mix="a.jsonl=3,b.jsonl=1", epochs=2)
    assert list(mixed.given.validation) == list(plain.given.validation)
    assert list(mixed.given.train) == list(plain.given.train) and plain.prepared.mix is None
    mix = mixed.prepared.mix
    assert mix
    origins = [mixed.given.train[mixed.prepared.train[i].source].origin.file for i in mix.epoch(42, 0)]
    assert abs(Counter(origins)["a.jsonl"] / len(origins) - 0.75) < 0.05
    assert len(origins) == mixed.prepared.facts.rows == len(mixed.prepared.train)
    assert mixed.plan.course.total_steps == 2 * -(-len(origins) // mixed.plan.course.effective_batch_size)
    assert "a.jsonl 75 %, b.jsonl 25 %" in said and mixed.plan.mix == (("a.jsonl", 0.75), ("b.jsonl", 0.25))


def test_prefixes_are_in_both_sides_and_the_split_is_the_same(installed: Path, two_files: Path) -> None:
    plain = read(options(installed, data="a.jsonl,b.jsonl"), two_files)
    given = read(options(installed, data="a.jsonl,b.jsonl", task_prefix="b.jsonl=QA"), two_files)
    for marked, before in ((given.train, plain.train), (given.validation, plain.validation)):
        expected = [("[QA] " if e.origin.file == "b.jsonl" else "") + e.messages[0].content for e in before]
        assert [e.messages[0].content for e in marked] == expected and any(t[0] == "[" for t in expected)


def test_pieces_of_a_text_stay_on_one_side_and_nothing_is_lost(installed: Path, tmp_path: Path) -> None:
    texts = [f"text{i} " + " ".join(f"w{i}x{j}\n" for j in range(i)) + "end" for i in range(1, 41)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts), encoding="utf-8")
    given = read(options(installed, data="t.jsonl", chunk_words=5), tmp_path)
    sides: list[dict[int, str]] = [{}, {}]
    for side, examples in zip(sides, (given.train, given.validation), strict=True):
        for e in examples:
            side[e.origin.line] = side.get(e.origin.line, "") + e.messages[0].content
            assert len(e.messages[0].content.split()) <= 5
    assert not sides[0].keys() & sides[1].keys() and sides[1]
    assert [{**sides[0], **sides[1]}[i] for i in range(1, 41)] == texts
    assert len(given.train) > len(sides[0])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"mix": "c.jsonl=2"}, "--mix: 'c.jsonl' matches none of the files; name one of: a.jsonl, b.jsonl"),
        ({"task_prefix": "c.jsonl=QA"}, "--task-prefix: 'c.jsonl' matches none of the files"),
        ({"mix": "a.jsonl=0"}, "a weight is a number above 0"),
        ({"chunk_words": 5}, "--chunk-words splits plain text, and there is none"),
    ],
)
def test_mistakes_are_one_sentence(installed: Path, two_files: Path, more: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read(options(installed, data="a.jsonl,b.jsonl", **more), two_files)


def test_a_whole_run_and_again_the_same(installed: Path, two_files: Path) -> None:
    found = []
    for _ in range(2):
        console, _said = quiet()
        result = run(
            options(
                installed, mix="a.jsonl=1,b.jsonl=1", task_prefix="a.jsonl=A", order="short-first", epochs=0.5,
                max_examples=80, learning_rate=1e-2,
            ),
            console, two_files,
        )  # fmt: skip
        assert result
        found.append((result.result.base_loss, result.result.best_loss))
    assert found[0] == found[1]
    newest = max((installed / "runs").iterdir())
    plan = json.loads((newest / "plan.json").read_text())
    assert plan["order"] == "short-first" and plan["mix"] == [["a.jsonl", 0.5], ["b.jsonl", 0.5]]
    steps = [json.loads(line) for line in (newest / "metrics.jsonl").read_text().splitlines()]
    assert sum(s["kind"] == "step" for s in steps) == plan["course"]["total_steps"]
