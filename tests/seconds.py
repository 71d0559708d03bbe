"""How long each test takes, and which of them are left to the slow tests so that the others end within minutes.

SECONDS=folder tests/run -p tests.seconds            measures: one file of JSON lines for each process
.venv/bin/python -m tests.seconds folder 800         writes tests/long.txt, so that 800 seconds of tests are left

A test costs what it takes by itself; tests that share what took long to make are kept or left together.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tiers import LONG, names_in

SHARED_SECONDS = 1.0
"""A fixture that took longer, and is made once for several tests, binds them together."""
QUICK = ("tests/test_layers.py", "tests/test_docs.py", "tests/core/", "tests/planning/")
"""What `make check` runs: these stay."""
HEAD = "# Written by tests/seconds.py: tests that take long. A name without brackets means all of its cases.\n"
_made: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Generator[None, object, object]:
    """Notes what a fixture for several tests took, with what it needed itself."""
    began = time.monotonic()
    made = yield
    if fixturedef.scope != "function":
        _made[_key(fixturedef, request.node.nodeid)] = time.monotonic() - began
    return made


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Writes a line for a test: its name, its own seconds, and the fixtures that it shares, with theirs."""
    _made.clear()
    began = time.monotonic()
    done = yield
    seconds = time.monotonic() - began - sum(_made.values())
    shared = [
        _key(each[-1], item.nodeid)
        for each in item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
        if each[-1].scope != "function"
    ]
    with (Path(os.environ["SECONDS"]) / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as out:
        out.write(json.dumps([item.nodeid, max(0.0, seconds), shared, _made]) + "\n")
    return done


def _key(fixture: Any, nodeid: str) -> str:
    """A fixture that is made once for a file is another one in each file."""
    where = nodeid.partition("::")[0] if fixture.scope in ("module", "class") else ""
    return f"{where}:{fixture.argname}"


def chosen(lines: Iterable[tuple[str, float, list[str], Mapping[str, float]]], budget: float) -> Iterator[str]:
    """The tests to leave out, those first that take longest each, until the others take at most `budget` seconds."""
    lines = list(lines)
    costs: dict[str, float] = {}
    for _, _, _, made in lines:
        costs |= {name: max(seconds, costs.get(name, 0.0)) for name, seconds in made.items()}
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    for name, seconds, shared, _ in lines:
        bound = sorted(each for each in shared if each[0] != ":" and costs.get(each, 0.0) > SHARED_SECONDS)
        groups[bound[-1] if bound else name][name] = seconds
    sums = {key: sum(group.values()) + costs.get(key, 0.0) for key, group in groups.items()}
    left = sum(sums.values())
    for key in sorted(groups, key=lambda key: sums[key] / len(groups[key]), reverse=True):
        if left <= budget:
            return
        if not key.startswith(QUICK):
            left -= sums[key]
            yield from groups[key]


def main(folder: str, budget: str) -> None:
    """Write tests/long.txt: what is in it already stays, for it was not measured."""
    lines = [json.loads(line) for file in sorted(Path(folder).glob("*.jsonl")) for line in file.open(encoding="utf-8")]
    found = sorted({*names_in(LONG), *chosen(lines, float(budget))})
    LONG.write_text(HEAD + "".join(f"{name}\n" for name in found), encoding="utf-8")
    print(f"{len(found):,} of {len(lines):,} tests are left to the slow ones")


if __name__ == "__main__":
    main(*sys.argv[1:])
