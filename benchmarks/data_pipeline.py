"""How fast and how lean data become examples: short records, no model.

Run as: python benchmarks/data_pipeline.py --rows 100000
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from llm_installer.data.load import load_examples
from llm_installer.data.splitting import split

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


def measure(shape: str, rows: int, folder: Path) -> None:
    """Load `rows` records once cold and once from the cache, split them, and print what it cost."""
    file = folder / f"{shape}-{rows}.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(_records(shape, rows))
    wall, cpu = time.perf_counter(), _cpu_seconds()
    loaded = load_examples(str(file), base=folder, workdir=folder / "cache")
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    again = time.perf_counter()
    load_examples(str(file), base=folder, workdir=folder / "cache")
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


def main() -> None:
    """Measure the sizes asked for, smallest first: the peak is that of the process so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--shape", choices=list(SHAPES), nargs="+", default=list(SHAPES))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "first.jsonl").write_text('{"text": "so that imports are not counted"}')
        load_examples("first.jsonl", base=Path(folder), workdir=Path(folder))
        for rows in sorted(asked.rows):
            for shape in asked.shape:
                measure(shape, rows, Path(folder))


if __name__ == "__main__":
    main()
