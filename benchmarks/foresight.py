"""What is said of a training before it begins, beside what happened: minutes and memory of ten trainings.

Run as: python benchmarks/foresight.py STORIES [--only NAME] [--rounds 1]

STORIES is a folder with the weights of stories260K. The prediction is what a page of the studio shows: `train
--dry-run --timed --json`, which loads the model and times a few steps. Minutes are a range there; beside it stands by
which factor the middle was off. Memory is the peak that the plan names against the peak that the process reached.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

WORDS = ("old", "lighthouse", "keeper", "counts", "ships", "that", "pass", "night", "writes", "long", "book", "names")
GIB = 1 << 30
FACTOR, SHARE = 1.5, 0.15
"""What is promised: time within this factor, memory within this share."""


@dataclass(frozen=True)
class Case:
    """A training: a model, rows of so many words, and options."""

    model: str
    rows: int
    words: int
    options: tuple[str, ...] = ()


CASES = {
    "tiny, short rows": Case("tiny", 60, 8, ("--epochs=6",)),
    "tiny, long rows": Case("tiny", 60, 120, ("--epochs=3",)),
    "tiny, many rows": Case("tiny", 600, 20, ("--epochs=2",)),
    "tiny, high rank": Case("tiny", 120, 30, ("--epochs=4", "--lora-r=64")),
    "stories, short rows": Case("stories260K", 80, 8, ("--epochs=8",)),
    "stories, long rows": Case("stories260K", 120, 100, ("--epochs=4",)),
    "stories, many rows": Case("stories260K", 1000, 20, ("--epochs=2",)),
    "135m, short rows": Case("135m", 24, 10, ("--epochs=2",)),
    "135m, long rows": Case("135m", 16, 100, ("--epochs=1",)),
    "135m, small batches": Case("135m", 24, 30, ("--epochs=1", "--effective-batch-size=4")),
}


def rows(case: Case, file: Path) -> Path:
    """Questions and answers, no two alike."""
    lines = []
    for number in range(case.rows):
        text = " ".join(WORDS[(number * 7 + place * (1 + number % 5)) % len(WORDS)] for place in range(case.words))
        lines.append(json.dumps({"prompt": f"What does page {number} of the book say?", "answer": f"{text}."}))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def llm(*words: str) -> str:
    """What a command of this program says; its words where it fails."""
    command = [sys.executable, "-m", "llm_installer", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout


def measured(name: str, case: Case, folder: Path) -> tuple[float, float]:
    """(factor of time, share of memory) by which the prediction was off; prints a line."""
    data = rows(case, folder / f"{name.replace(', ', '-').replace(' ', '-')}.jsonl")
    usual = ("train", case.model, f"--data={data}", "--skip-test", *case.options)
    said = json.loads(llm(*usual, "--dry-run", "--timed", "--json"))
    llm(*usual)
    runs = Path(os.environ["LLM_HOME"]) / "models" / case.model / "runs"
    run = sorted(runs.iterdir())[-1]
    took = json.loads((run / "duration.json").read_text(encoding="utf-8"))["took_seconds"]
    peak = json.loads((run / "run.json").read_text(encoding="utf-8"))["result"]["speed"]["peak_bytes"]
    time, memory = said["time"], said["memory"]["predicted_bytes"]
    factor = max(time["seconds"] / took, took / time["seconds"])
    share = memory / peak - 1
    inside = "in the range" if time["least_seconds"] <= took <= time["most_seconds"] else "outside the range"
    print(
        f"{name:<20} said {time['words']:<32} middle {time['seconds']:6.1f} s, took {took:6.1f} s, "
        f"factor {factor:4.2f}, {inside}; memory {memory / GIB:5.2f} of {peak / GIB:5.2f} GiB, {share:+.0%}",
        flush=True,
    )
    return factor, abs(share)


def main() -> None:
    """Install the models, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", type=Path, help="folder with the weights of stories260K")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["LLM_HOME"] = str(Path(scratch) / "home")
        wanted = {name: case for name, case in CASES.items() if given.only in name}
        for model in dict.fromkeys(case.model for case in wanted.values()):
            _install(model, given.stories, Path(scratch))
        found = [measured(name, case, Path(scratch)) for _ in range(given.rounds) for name, case in wanted.items()]
    late = sum(factor > FACTOR for factor, _ in found)
    large = sum(share > SHARE for _, share in found)
    print(f"{len(found)} trainings: {late} off by more than a factor of {FACTOR} in time")
    print(f"{len(found)} trainings: {large} off by more than {SHARE:.0%} of memory")


def _install(model: str, stories: Path, scratch: Path) -> None:
    if model == "135m":
        from serving import made

        made(model, scratch)
    source = {"tiny": "tiny", "135m": str(scratch / "135m")}.get(model, str(stories))
    llm("install", source, "--name", model)


if __name__ == "__main__":
    main()
