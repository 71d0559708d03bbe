"""The overview says in figures and words what was found, used and skipped."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from llm_installer.cli.main import cli
from llm_installer.data.document import as_json, overview_values
from llm_installer.data.overview import DataOverview, TokenFacts, make_overview
from llm_installer.data.prepare import read
from llm_installer.data.splitting import split
from llm_installer.data.store.load import DataRequest, load_examples
from llm_installer.planning.options import Options
from llm_installer.ui.dataset import overview_parts

TOKENS = TokenFacts(
    quantiles={"median": 120, "95%": 610, "longest": 2040},
    supervised_share=0.43,
    truncated_share=0.005,
    max_seq_length=1024,
    longest=(("my.jsonl:3", 2040), ("my.jsonl:9", 1100)),
)


def write(path: Path, *records: object) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def overview(folder: Path, data: str, tokens: TokenFacts | None = None, **more) -> DataOverview:
    loaded = load_examples(DataRequest(data, base=folder, **more), folder / "work")
    given = None if loaded.validation is None else loaded.validation.prompt_keys()
    keys = loaded.train.prompt_keys(), loaded.train.row_keys()
    parts = split(*keys, validation_split=0.1, seed=42, max_examples=None, given_validation_keys=given)
    return make_overview(loaded, parts, tokens=tokens)


def shown(found: DataOverview, width: int = 100) -> str:
    out = io.StringIO()
    for part in overview_parts(found):
        Console(width=width, file=out).print(part)
    return out.getvalue()


@pytest.fixture
def messy(tmp_path) -> Path:
    rows = [{"instruction": f"question {i}", "output": f"answer {i}"} for i in range(30)]
    write(tmp_path / "my.jsonl", *rows, *rows[:5], *({"instruction": "q", "output": ""} for _ in range(4)))
    write(tmp_path / "other [x].jsonl", {"messages": [{"role": "user", "content": "[bold]hi"}]}, {"text": "plain"})
    write(tmp_path / "empty.jsonl")
    return tmp_path


def test_figures_add_up(messy):
    found = overview(messy, "my.jsonl,other [x].jsonl,empty.jsonl")
    assert found.examples == 36
    assert found.duplicates == 5
    assert found.train + found.validation == found.examples - found.duplicates
    assert found.validation == 3
    assert found.dropped_count == len(found.dropped) == sum(found.dropped_reasons.values()) == 5
    assert found.formats == {"alpaca": 39, "openai": 1, "text": 1}
    assert sum(file.records for file in found.files) == found.examples + found.dropped_count
    assert found.warnings == ("empty.jsonl holds no records",)


def test_json_is_one_object_with_every_dropped_place(messy):
    found = json.loads(as_json(overview_values(overview(messy, "my.jsonl,other [x].jsonl,empty.jsonl", TOKENS))))
    assert (found["examples"], found["train"], found["validation"], found["duplicates"]) == (36, 28, 3, 5)
    assert [(place["file"], place["line"]) for place in found["dropped"]] == [
        *(("my.jsonl", line) for line in (36, 37, 38, 39)),
        ("other [x].jsonl", 1),
    ]
    assert all(place["reason"] for place in found["dropped"])
    assert found["formats"] == {"alpaca": 39, "openai": 1, "text": 1}
    assert [file["name"] for file in found["files"]] == ["empty.jsonl", "my.jsonl", "other [x].jsonl"]
    assert found["warnings"] == ["empty.jsonl holds no records"]
    assert found["tokens"]["quantiles"] == {"median": 120, "95%": 610, "longest": 2040}
    assert found["tokens"]["longest"] == [["my.jsonl:3", 2040], ["my.jsonl:9", 1100]]


def test_json_names_the_record_where_there_are_no_lines(tmp_path):
    (tmp_path / "my.json").write_text(json.dumps([{"text": "a"}, {"text": " "}]))
    (place,) = json.loads(as_json(overview_values(overview(tmp_path, "my.json"))))["dropped"]
    assert place["file"] == "my.json" and place["record"] == 2 and "line" not in place


def test_a_person_reads_all_of_it(messy):
    text = shown(overview(messy, "my.jsonl,other [x].jsonl,empty.jsonl", TOKENS))
    for said in (
        "other [x].jsonl",
        "alpaca",
        "examples    36",
        "training    28, without 5 exact copies",
        "validation  3 of 31 rows",
        "my.jsonl:36, my.jsonl:37, my.jsonl:38, ...",
        "median 120, 95% 610, longest 2,040",
        "43% of all tokens",
        "0.5% of the rows have more than 1,024 tokens",
        "my.jsonl:3 (2,040), my.jsonl:9 (1,100)",
        "Warning: empty.jsonl holds no records",
    ):
        assert said in text, text


def test_without_a_model_nothing_is_said_of_tokens(messy):
    assert "oken" not in shown(overview(messy, "my.jsonl"))


def test_given_validation_and_notices_are_shown(tmp_path):
    pair = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    write(tmp_path / "my.jsonl", pair)
    write(tmp_path / "held.jsonl", pair, {**pair, "prompt": "new"})
    text = shown(overview(tmp_path, "my.jsonl", validation_data="held.jsonl"))
    assert "1 given validation row, without 1 whose prompt is also trained on" in text
    assert "Note: In records of format preference, only the chosen answer" in text


def test_many_reasons_are_summed_up(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "image": f"{i}.png"}
            for i in range(12)]  # fmt: skip
    write(tmp_path / "my.jsonl", {"text": "kept"}, *rows)
    text = shown(overview(tmp_path, "my.jsonl"), 300)
    assert text.count("does not exist") == 8
    assert "4  for other reasons; see them all with --json" in text


def looked(folder: Path, *arguments: str) -> dict[str, object]:
    paths = [str(folder / name) for name in ("a.jsonl", "b.jsonl", "t.txt")]
    result = CliRunner().invoke(cli, ["data", *paths, "--json", *arguments], standalone_mode=False)
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


@pytest.fixture
def three_files(tmp_path: Path, llm_home: Path) -> Path:
    for name in "ab":
        write(tmp_path / f"{name}.jsonl", *({"prompt": f"{name} {i}", "completion": "x"} for i in range(20)))
    (tmp_path / "t.txt").write_text("one two three four five\n")
    return tmp_path


def test_the_data_command_shows_what_options_do(three_files: Path) -> None:
    plain = looked(three_files)
    assert (plain["train"], plain["validation"], plain["changes"], plain["epoch"]) == (37, 4, {}, {})
    half = looked(three_files, "--validation-split", "0.5")
    assert abs(half["validation"] - 20) <= 1 and half["train"] + half["validation"] == 41
    few = looked(three_files, "--max-examples", "10", "--validation-split", "0")
    assert (few["train"], few["changes"]["sample"]) == (10, "10 examples, at most 10 asked for, chosen with seed 42")
    mixed = looked(three_files, "--mix", "a.jsonl=3,b.jsonl=1,t.txt=1", "--validation-split", "0")
    assert mixed["epoch"] == {str(three_files / "a.jsonl"): 25, str(three_files / "b.jsonl"): 8} | {
        str(three_files / "t.txt"): 8
    }
    assert "60 %" in mixed["changes"]["mix"]
    cut = looked(three_files, "--chunk-words", "2", "--task-prefix", "a.jsonl=QA", "--validation-split", "0")
    assert cut["changes"]["pieces"] == "1 plain text in 3 rows of at most 2 words"
    assert "a.jsonl [QA]" in cut["changes"]["prefixes"]


def test_the_seed_chooses_the_validation_rows(three_files: Path) -> None:
    def validation(seed: str) -> list[object]:
        given = read(Options(data=str(three_files / "a.jsonl"), seed=int(seed)), three_files)
        return [row.origin for row in given.validation]

    assert validation("1") == validation("1") != validation("2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--mix", "z.jsonl=2"), "matches none of the files"),
        (("--max-examples", "0"), "max_examples"),
        (("--validation-split", "2"), "validation_split"),
    ],
)
def test_options_that_mean_nothing_are_refused(three_files: Path, arguments: tuple[str, ...], says: str) -> None:
    paths = [str(three_files / "a.jsonl")]
    result = CliRunner().invoke(cli, ["data", *paths, *arguments], standalone_mode=False)
    assert result.exception is not None
    assert says in f"{result.exception} {getattr(result.exception, 'param', None)}"
