"""What cutting takes from rows is counted as it is found one row at a time, and said before training."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console as RichConsole

from llm_installer.cli.main import cli
from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import counted
from llm_installer.core.voice import Silence
from llm_installer.data.cut_rows import ANSWER_LOST, Side, cut_facts
from llm_installer.data.encoding.cutting import cut, losses
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.row import Row
from llm_installer.data.inspection import inspect_data
from llm_installer.data.prepare import write_dropped
from llm_installer.data.preview import preview
from llm_installer.planning.cuts import CutFacts, Room, refuse_lost_answers
from llm_installer.planning.options import Options
from llm_installer.planning.table import plan_rows
from llm_installer.runs.job import Job
from llm_installer.train_lora import decide
from llm_installer.ui.console import Console
from tests.generated import many


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    """Rows of several questions and answers, some of them plain text."""
    rows = []
    for source in range(draw(st.integers(1, 6))):
        runs = draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
        mask = np.concatenate([np.full(n, i % 2 == 1) for i, n in enumerate(runs)])
        mask[0] = False
        rows.append(Row(np.arange(len(mask), dtype=np.int32), mask, source, draw(st.integers(0, 4)) == 0))
    return rows


@settings(max_examples=many(200), deadline=None)
@given(row_lists(), st.integers(8, 120))
def test_losses_are_what_is_missing_from_the_cut_row(rows: list[Row], limit: int) -> None:
    """The ids of a row are its positions, so what is lost is what is not there."""
    found = losses(EncodedSet.of(rows), limit)
    long = [i for i, row in enumerate(rows) if len(row.ids) > limit and not row.text]
    assert found.rows.tolist() == long
    for i, question, answer, end in zip(long, found.question, found.answer, found.end, strict=True):
        row = rows[i]
        left = cut([row], limit)
        kept, learned = (set(), set())
        if len(left):
            kept, learned = set(left[0].ids.tolist()), set(left[0].ids[left[0].supervised].tolist())
            first = min(kept - {0})
            assert question == sum(not row.supervised[n] for n in range(1, first))
        supervised = np.flatnonzero(row.supervised).tolist()
        assert answer == len(set(supervised) - learned)
        if left and supervised:
            assert end == (supervised[-1] not in kept)


@settings(max_examples=many(100), deadline=None)
@given(row_lists(), st.integers(8, 120))
def test_counts_and_lines_agree_with_the_rows(rows: list[Row], limit: int) -> None:
    encoded = EncodedSet.of(rows)
    examples = [Example((Message("user", str(i)),), Origin("a.jsonl", i + 1)) for i in range(len(rows))]
    side = Side(examples, encoded, limit)
    left, facts, lines = cut(encoded, limit), cut_facts([side]), list(side)
    assert facts.rows == len(lines) <= facts.of == len(rows)
    gone = sum(int(encoded.counts[~encoded.text].sum()) - int(left.counts[~left.text].sum()) for _ in range(1))
    total = int(encoded.counts[~encoded.text].sum())
    assert facts.lost == pytest.approx(gone / total if total else 0)
    assert sum("its question" in line.loses for line in lines) == facts.question
    assert sum("its answer" in line.loses for line in lines) == facts.answer
    assert sum("its end" in line.loses for line in lines) == facts.end
    assert {d.origin.line - 1 for d in side.dropped} == set(range(len(rows))) - set(left.source.tolist())
    assert all(d.reason == ANSWER_LOST for d in side.dropped)


@pytest.fixture
def long_texts(tmp_path: Path) -> Path:
    """Ten plain texts, each several times as long as 64 tokens."""
    texts = (" ".join(f"the keeper of house {i} has lamp {n}" for n in range(40)) for i in range(10))
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return file


@settings(max_examples=many(100), deadline=None)
@given(st.lists(st.integers(2, 300), min_size=1, max_size=6), st.integers(2, 120))
def test_pieces_of_texts_are_the_rows_that_they_become(lengths: list[int], limit: int) -> None:
    texts = [Row(np.arange(n, dtype=np.int32), np.arange(n) > 0, i, True) for i, n in enumerate(lengths)]
    found = Side([], EncodedSet.of(texts), limit).pieces
    assert found.texts == sum(n > limit for n in lengths)
    assert found.pieces + len(lengths) - found.texts == len(cut(texts, limit))


def test_texts_that_are_cut_into_pieces_are_counted_as_texts_and_as_pieces(installed: Path, long_texts: Path) -> None:
    job = decided(options(installed, long_texts, max_seq_length=64, max_examples=100))
    parts = job_parts(job)
    validation = counted(len(job.prepared.validation), "piece")
    assert f"9 texts to train on, cut into {len(job.prepared.train)} pieces of at most 64 tokens; " in parts
    assert "--max-examples counts texts, not pieces" in parts
    assert f"1 of 10 rows (10.0%), cut into {validation} of at most 64 tokens" in parts


def test_data_says_that_long_texts_lose_nothing(
    installed: Path, long_texts: Path, write_rows: Callable[..., Path]
) -> None:
    asked = ["--model", str(installed), "--max-seq-length", "64", "--validation-split", "0"]
    said = CliRunner().invoke(cli, ["data", str(long_texts), *asked]).stdout
    assert "10 texts of more than 64 tokens: training cuts them into" in said and "nothing is lost" in said
    assert "too long" not in said and "median" in said
    both = CliRunner().invoke(cli, ["data", str(long_texts), str(write_rows(4)), *asked]).stdout
    assert "10 texts of more than 64 tokens" in both and "too long" not in both


@pytest.fixture
def long_rows(tmp_path: Path) -> Path:
    """Four rows that fit, and six that do not: long questions, long answers, both."""
    rows = [("Say it.", "It.")] * 4 + [("Say " + "so " * 120, "So it is.")] * 2
    rows += [("Tell me.", "Once " + "upon a time " * 60)] * 2 + [("Say " + "so " * 90, "Once " + "a time " * 60)] * 2
    file = tmp_path / "long.jsonl"
    lines = ({"instruction": f"{i}: {asked}", "output": f"{i} {said}"} for i, (asked, said) in enumerate(rows))
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return file


def options(model: Path, data: Path, **more: object) -> Options:
    return replace(Options(model_path=str(model), data=str(data), max_seq_length=48, seed=1), **more)


def job_parts(job: Job) -> str:
    """What the console says of a job."""
    file = io.StringIO()
    Console(rich=RichConsole(file=file)).show(job)
    return file.getvalue()


def decided(asked: Options) -> Job:
    return decide(asked, Silence())


def test_training_stops_before_the_model_is_loaded_and_names_the_choices(installed: Path, long_rows: Path) -> None:
    with pytest.raises(DataError) as stopped:
        decided(options(installed, long_rows))
    said = str(stopped.value)
    assert "of the answer tokens would be cut off: 6 of 10 rows are longer than 48 tokens" in said
    assert "shorten the texts" in said and "raise --max-seq-length (tiny-llama can read 256)" in said
    assert "--allow-cut-answers" in said and "\n" not in said


def test_plan_console_and_dropped_file_say_what_is_lost(installed: Path, long_rows: Path, tmp_path: Path) -> None:
    job = decided(options(installed, long_rows, allow_cut_answers=True))
    cut = job.prepared.cut
    assert (cut.rows, cut.of, cut.question, cut.answer, cut.end) == (6, 10, 6, 4, 4)
    assert job.plan.cut == cut and 0.2 < cut.lost < 1
    row = next(row for row in plan_rows(job.plan) if row.name == "cut rows")
    assert row.value == "6 of 10" and row.flag == "--max-seq-length"
    assert row.why.startswith("6 lose the question or part of it, 4 lose part of the answer, 4 lose the end token; ")
    write_dropped(tmp_path / "dropped.jsonl", job.given, job.prepared)
    lines = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(line["line"] for line in lines) == [5, 6, 7, 8, 9, 10] and all(line["partly"] for line in lines)
    assert "of its answer, its end among them" in next(line["reason"] for line in lines if line["line"] == 7)
    assert "of its question" in next(line["reason"] for line in lines if line["line"] == 5)


def test_strict_refuses_a_cut_row_and_names_it(installed: Path, long_rows: Path) -> None:
    with pytest.raises(DataError, match=r"long.jsonl:\d+: cut from [\d,]+ to 48 tokens: it loses .*without --strict"):
        decided(options(installed, long_rows, strict=True, allow_cut_answers=True))


def test_strict_chooses_a_length_that_cuts_nothing(installed: Path, write_rows: Callable[..., Path]) -> None:
    """One row in 400 is longer: unasked, it would be cut."""
    data = write_rows(400)
    with data.open("a") as file:
        file.write('\n{"instruction": "Once more?", "output": "Now ' + "it is red and green. " * 12 + '"}')
    asked = options(installed, data, max_seq_length=None, validation_split=0.0)
    assert decided(asked).prepared.cut.rows == 1
    assert decided(replace(asked, strict=True)).prepared.cut.rows == 0


@pytest.mark.parametrize("length", [48, None])
def test_show_has_the_ids_and_labels_that_training_sees(installed: Path, long_rows: Path, length: int | None) -> None:
    asked = options(installed, long_rows, max_seq_length=length, allow_cut_answers=True, show=100)
    job, shown = decided(replace(asked, show=None)), preview(asked, Path.cwd())
    trained = [(row.ids.tolist(), row.supervised.tolist()) for row in job.prepared.train]
    assert [(row.ids.tolist(), row.supervised.tolist()) for one in shown.examples for row in one.rows] == trained
    assert sum(bool(one.notes) for one in shown.examples) == job.prepared.cut.rows - sum(
        1 for _ in job.prepared.sides[1]
    )


def test_data_says_it_and_does_not_fail(installed: Path, long_rows: Path) -> None:
    words = ["data", str(long_rows), "--model", str(installed), "--max-seq-length", "48"]
    done = CliRunner().invoke(cli, words)
    said = " ".join(done.output.split())
    assert done.exit_code == 0 and "6 of 10: 6 lose the question or part of it" in said
    assert "Warning: training would stop: " in said and "--allow-cut-answers" in said
    found = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)["tokens"]["cut"]
    assert found["rows"] == 6 and found["end"] == 4
    shown = CliRunner().invoke(cli, [*words, "--show", "9"]).output
    assert "cut from" in shown and ": 48 tokens, " in shown
    with pytest.raises(UsageError, match="--model"):
        inspect_data(Options(data=str(long_rows), max_seq_length=48), Path.cwd())


def test_the_long_case(shared: Path, tiny_llama: Path, llm_home: Path, tmp_path: Path) -> None:
    """A model that reads 128 tokens: 98 % of the answers are cut away."""
    import shutil

    from llm_installer.install.installer import install

    folder = tmp_path / "short"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 128}))
    model = ModelDir(install(str(folder), say=lambda text: None).root).root
    data = shared / "cases" / "long" / "answers.jsonl"
    with pytest.raises(DataError, match=r"9[89]% of the answer tokens"):
        decided(options(model, data, max_seq_length=None))
    job = decided(options(model, data, max_seq_length=None, allow_cut_answers=True))
    assert job.plan.cut.value == "20 of 20" and job.plan.cut.end == 20
    with pytest.raises(DataError, match="without --strict"):
        decided(options(model, data, max_seq_length=None, strict=True))


@pytest.mark.parametrize(
    ("cut", "room", "says"),
    [
        (CutFacts(rows=1, of=1, lost=0.999, longest=900), Room(64, 512, "m"), "over 99% .* the only row is longer"),
        (CutFacts(rows=3, of=9, lost=0.5, longest=900), Room(64, 64, "m"), "m can read no more"),
    ],
)
def test_the_refusal_reads_well(cut: CutFacts, room: Room, says: str) -> None:
    with pytest.raises(DataError, match=says):
        refuse_lost_answers(cut, Options(), room)
    refuse_lost_answers(cut, Options(allow_cut_answers=True), room)
    refuse_lost_answers(replace(cut, lost=0.2), Options(), room)
