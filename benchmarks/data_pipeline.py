"""How fast and how lean data become examples: short records, without a model; and with one, up to the first step.

Run as: python benchmarks/data_pipeline.py --rows 10000 100000 1000000
        python benchmarks/data_pipeline.py --rows 1000000 --shape alpaca --first-step ../shared/models/stories260K
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from llm_installer.data.splitting import split
from llm_installer.data.store.load import DataRequest, load_examples

WORDS = ("water", "seed", "river", "stone", "light", "cloud", "garden", "answer", "window", "number", "letter")
SIZES = (10_000, 100_000, 1_000_000)


def _alpaca(number: int, say: Callable[[int], str]) -> dict[str, object]:
    return {"instruction": f"Explain {say(7)} number {number}", "input": say(4), "output": say(17)}


def _openai(number: int, say: Callable[[int], str]) -> dict[str, object]:
    asked = {"role": "user", "content": f"Explain {say(7)} number {number}"}
    return {"messages": [asked, {"role": "assistant", "content": say(15)}]}


SHAPES = {"alpaca": _alpaca, "openai": _openai}


def _records(shape: str, rows: int) -> Iterator[str]:
    chance = random.Random(0)

    def say(words: int) -> str:
        return " ".join(chance.choices(WORDS, k=words))

    for number in range(rows):
        yield json.dumps(SHAPES[shape](number, say)) + "\n"


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _peak_mib() -> float:
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def _write(shape: str, rows: int, folder: Path) -> Path:
    file = folder / f"{shape}-{rows}.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(_records(shape, rows))
    return file


def measure(shape: str, rows: int, folder: Path) -> None:
    """Load `rows` records once cold and once from the cache, split them, and print what it cost."""
    file = _write(shape, rows, folder)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    loaded = load_examples(DataRequest(str(file), base=folder), folder / "cache")
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    again = time.perf_counter()
    load_examples(DataRequest(str(file), base=folder), folder / "cache")
    again = time.perf_counter() - again
    halves = time.perf_counter()
    keys = loaded.train.prompt_keys(), loaded.train.row_keys()
    parts = split(*keys, validation_split=0.1, seed=42, max_examples=None)
    halves = time.perf_counter() - halves
    assert len(parts.train) + len(parts.validation) + parts.duplicates == len(loaded.train) == rows
    print(
        f"{shape:8s} {rows:>9,} rows {file.stat().st_size / rows:4.0f} B  {wall:6.2f} s {rows / wall:>9,.0f} rows/s  "
        f"cpu {cpu / rows * 1e6:5.1f} us/row  cached {again:5.2f} s  split {halves:5.2f} s  peak {_peak_mib():,.0f} MiB"
    )


def command(shape: str, rows: int, folder: Path) -> None:
    """`llm-installer data FILE`, from the shell to its last line: programs, imports, split and report with it."""
    file = _write(shape, rows, folder)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    environment = os.environ | {"LLM_HOME": str(folder / f"home-{shape}-{rows}")}
    run = [sys.executable, "-m", "llm_installer", "data", str(file)]
    subprocess.run(run, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    print(f"{shape:8s} {rows:>9,} rows  {wall:6.2f} s {rows / wall:>9,.0f} rows/s  cpu {cpu / rows * 1e6:5.1f} us/row")


def first_step(shape: str, rows: int, folder: Path, model: Path) -> None:
    """Start training and print when the first step was taken, cold and then from the caches; then end it."""
    file = _write(shape, rows, folder)
    home = folder / f"training-{shape}-{rows}"
    environment = os.environ | {"LLM_HOME": str(home)}
    program = [sys.executable, "-m", "llm_installer"]
    subprocess.run([*program, "install", str(model), "--name", "m"], env=environment, check=True, capture_output=True)
    for turn in ("first", "second"):
        start = time.perf_counter()
        train = [*program, "train", "--model-path", str(home / "models" / "m"), "--data", str(file), "--no-tensorboard"]
        train += ["--allow-cut-answers"]
        with subprocess.Popen(train, env=environment, stdout=subprocess.DEVNULL) as process:
            while not _stepped(home / "models" / "m" / "runs", turn == "second"):
                if process.poll() is not None:
                    sys.exit("training ended before its first step")
                time.sleep(0.05)
            seconds = time.perf_counter() - start
            process.kill()
        print(f"{shape:8s} {rows:>9,} rows  {turn} time: the first step was done after {seconds:6.1f} s", flush=True)


def _stepped(runs: Path, second: bool) -> bool:
    """Whether the newest run has done a step, by its status.json, which is written once a second."""
    found = sorted(runs.glob("*/status.json"))
    if len(found) <= second:
        return False
    return bool(json.loads(found[-1].read_text(encoding="utf-8"))["step"])


def main() -> None:
    """Measure the sizes asked for, smallest first: the peak is that of the process so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--shape", choices=list(SHAPES), nargs="+", default=list(SHAPES))
    parser.add_argument("--command", action="store_true", help="time the whole data command instead")
    parser.add_argument("--first-step", type=Path, metavar="MODEL", help="time training up to its first step instead")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "first.jsonl").write_text('{"text": "so that imports are not counted"}')
        load_examples(DataRequest("first.jsonl", base=Path(folder)), Path(folder))
        for rows in sorted(asked.rows):
            for shape in asked.shape:
                if asked.first_step:
                    first_step(shape, rows, Path(folder), asked.first_step.resolve())
                elif asked.command:
                    command(shape, rows, Path(folder))
                else:
                    measure(shape, rows, Path(folder))


if __name__ == "__main__":
    main()
