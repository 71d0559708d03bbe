"""The answers that other programs read: complete, documented, and an object where something is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llm_installer.cli.main import cli
from llm_installer.data.encoding.row import Row
from llm_installer.data.pieces import pieces
from llm_installer.install.tiny import MODEL_DIR
from tests.commands import command

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "json.md"
TOKENIZER = AutoTokenizer.from_pretrained(MODEL_DIR)
BAD = {"instruction": "<img src=x onerror=alert(1)>", "output": ""}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "my data.jsonl"
    lines = [{"instruction": f"Colour {i}?", "output": f"Blue, à la {i} 🙂."} for i in range(20)]
    lines += [lines[0], BAD, {"instruction": "Long?", "output": "word " * 60}]
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return file


def fields(found: object) -> set[str]:
    """All names of objects, but for those of free text."""
    if isinstance(found, list):
        return set().union(*map(fields, found)) if found else set()
    if not isinstance(found, dict):
        return set()
    free = ("quantiles", "dropped_reasons", "not_learned", "formats", "changes", "epoch", "files", "cut", "split")
    return set(found).union(*(fields(value) for name, value in found.items() if name not in free))


def documented(found: object) -> set[str]:
    """Names that the page does not tell."""
    return fields(found) - set(re.findall(r"`(\w+)`", DOCS.read_text(encoding="utf-8")))


def test_a_dataset_says_all_that_is_said_to_people(installed: Path, rows: Path) -> None:
    words = ["data", str(rows), "--model", str(installed), "--show", "2", "--max-seq-length", "40", "--json"]
    done = CliRunner().invoke(cli, words)
    found = json.loads(done.stdout)
    assert (found["version"], found["duplicates"], found["dropped_count"]) == (1, 1, 1)
    assert (found["dropped"][0]["line"], Path(found["dropped"][0]["file"]).name) == (22, "my data.jsonl")
    (cut,) = found["tokens"]["cut_rows"]
    assert cut["line"] == 23 and "it loses" in cut["reason"]
    assert sum(bar["rows"] for bar in found["tokens"]["histogram"]) == found["tokens"]["rows"]
    for shown in found["shown"]:
        (row,) = shown["rows"]
        assert row["tokens"] == sum(len(piece["ids"]) for piece in row["pieces"])
        learned = "".join(piece["text"] for piece in row["pieces"] if piece["learned"])
        assert learned.startswith("Blue, à la ") and "🙂." in learned
        assert row["learned"] == sum(len(piece["ids"]) for piece in row["pieces"] if piece["learned"])
    assert len(found["shown"]) == 2 and documented(found) <= {"unknown", "remarks", "remarked"}


def test_a_plan_says_every_value_with_its_reason(installed: Path, rows: Path) -> None:
    done = command("train", installed, "--data", rows, "--dry-run", "--timed", "--json", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    plan = {row["name"]: row for row in found["plan"]}
    assert plan["epochs"]["value"] == "2" and plan["epochs"]["setting"]["given"] == 2
    assert all(row["why"] or row["value"] for row in found["plan"])
    assert found["memory"]["fits"] and found["memory"]["predicted_bytes"] < found["memory"]["free_bytes"]
    assert 0 < found["time"]["least_seconds"] < found["time"]["seconds"] < found["time"]["most_seconds"]
    assert found["data"]["train"] + found["data"]["validation"] == 21 and len(found["shown"]) == 5
    assert documented(found) <= {"unknown", "remarks", "remarked", "devices", "bf16", "float8", "compiler", "help"}
    assert not (installed / "runs").exists() or not any((installed / "runs").iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data", "nowhere.csv", "--json"], "nowhere.csv"),
        (["data", "x.csv", "--show", "2", "--json"], "--show needs a tokenizer"),
        (["train", "MODEL", "--data", "nowhere.csv", "--dry-run", "--json"], "nowhere.csv"),
        (["train", "nowhere", "--data", "x.csv", "--dry-run", "--json"], "nowhere"),
    ],
)
def test_an_error_is_an_object_too(installed: Path, words: list[str], says: str) -> None:
    done = command(*[str(installed) if word == "MODEL" else word for word in words])
    assert done.returncode in (1, 2)
    found = json.loads(done.stdout)
    assert says in found["error"] and done.stderr == f"Error: {found['error']}\n"


def test_timed_is_for_dry_runs(installed: Path, rows: Path) -> None:
    done = command("train", installed, "--data", rows, "--timed")
    assert done.returncode == 2 and "--timed goes with --dry-run" in done.stderr


@given(st.text(max_size=60), st.data())
def test_pieces_are_the_text(text: str, data: st.DataObject) -> None:
    """Whatever is trained on, and wherever tokens part a character: nothing is lost or said twice."""
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    learned = data.draw(st.integers(0, len(ids)))
    row = Row(np.array(ids, dtype=np.int32), np.arange(len(ids)) >= learned, 0)
    found = list(pieces(row, TOKENIZER))
    assert [one for piece in found for one in piece.ids] == ids
    assert sum(len(p.ids) for p in found if p.learned) == len(ids) - learned
    if learned in (0, len(ids)):
        assert "".join(piece.text for piece in found) == TOKENIZER.decode(ids, skip_special_tokens=False)
