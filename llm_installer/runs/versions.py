"""Which run is which version of a model, and which of them is the candidate or in production.

A version is a number of a model, `tiny/3`, that a run with an adapter gets once and no other run ever has. `production`
is a mark that only a person moves: a new training changes what `lora` names, never what is in production. Both are kept
in versions.json of the model directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.files import write_json
from llm_installer.core.json_file import read_object
from llm_installer.core.paths import ModelDir

FILE = "versions.json"
CANDIDATE, PRODUCTION = "candidate", "production"
STAGES = (CANDIDATE, PRODUCTION)
MOST_EARLIER = 50
_LOCK_S = 30


@dataclass
class Versions:
    """The versions of a model."""

    numbers: dict[str, int] = field(default_factory=dict)
    """By the ids of runs."""
    stages: dict[str, str] = field(default_factory=dict)
    """Of STAGES, each with the run that has it."""
    earlier: list[str] = field(default_factory=list)
    """Runs that were in production before, the latest last."""
    last: int = 0
    """The highest number that was ever given."""

    def stage_of(self, run: str) -> str:
        """The stage of a run; empty where it has none."""
        return next((stage for stage in reversed(STAGES) if self.stages.get(stage) == run), "")

    @property
    def before(self) -> str:
        """What a roll back would put into production; empty where nothing was before, or all of it is gone."""
        now = self.stages.get(PRODUCTION)
        return next((run for run in reversed(self.earlier) if run in self.numbers and run != now), "")


def read_versions(folder: ModelDir) -> Versions:
    """The versions of a model; a file that is damaged counts as none."""
    with suppress(InstallerError, TypeError, ValueError, AttributeError):
        found = read_object(folder.root / FILE)
        return Versions(
            {str(run): int(number) for run, number in dict(found["numbers"]).items()},  # type: ignore[call-overload]
            {stage: str(run) for stage, run in dict(found["stages"]).items() if stage in STAGES},  # type: ignore[call-overload]
            [str(run) for run in list(found["earlier"])],  # type: ignore[call-overload]
            int(str(found["last"])),
        )
    return Versions()


def numbered(folder: ModelDir, usable: Iterable[str], there: Iterable[str]) -> Versions:
    """The versions, where every run with an adapter has a number: those that are new get the next ones, in order.

    `usable` are the ids of runs with an adapter, `there` of all; of others only their number stays used.
    """
    found, runs, known = read_versions(folder), list(usable), set(there)
    if all(run in found.numbers for run in runs) and known >= {*found.numbers}:
        return found
    with _changed(folder) as found:
        for run in [run for run in found.numbers if run not in known]:
            _forget(found, run)
        for run in sorted(runs):
            if run not in found.numbers:
                found.last += 1
                found.numbers[run] = found.last
    return found


def promote(folder: ModelDir, run: str, stage: str) -> Versions:
    """Give a run a stage, which no other one has then. Raises UsageError for what is neither."""
    if stage not in STAGES:
        raise UsageError(f"{stage!r} is no stage; there are {' and '.join(STAGES)}")
    with _changed(folder) as found:
        if run not in found.numbers:
            raise UsageError(f"Run {run} has no version, since it has no adapter; choose another")
        now = found.stages.get(stage)
        if stage == PRODUCTION:
            found.earlier += [now] if now and now != run else []
            del found.earlier[:-MOST_EARLIER]
            if found.stages.get(CANDIDATE) == run:
                del found.stages[CANDIDATE]
        found.stages[stage] = run
    return found


def demote(folder: ModelDir, run: str) -> Versions:
    """Take all stages from a run; one that was in production can be rolled back to."""
    with _changed(folder) as found:
        if found.stages.get(PRODUCTION) == run:
            found.earlier.append(run)
        found.stages = {stage: one for stage, one in found.stages.items() if one != run}
    return found


def roll_back(folder: ModelDir) -> str:
    """Put into production what was there before, and return its id. Raises UsageError where nothing was."""
    with _changed(folder) as found:
        if not (before := found.before):
            raise UsageError(f"Nothing was in production of {folder.root.name} before; promote a run")
        while found.earlier and found.earlier.pop() != before:
            pass
        found.stages[PRODUCTION] = before
        if found.stages.get(CANDIDATE) == before:
            del found.stages[CANDIDATE]
    return before


def meant(folder: ModelDir, words: str) -> str:
    """The id of the run that `production`, `candidate` or `NAME/3` mean; empty where there is none, and otherwise."""
    if words in STAGES:
        return read_versions(folder).stages.get(words, "")
    if match := re.fullmatch(rf"(?:{re.escape(folder.root.name)})?/(\d{{1,9}})", words):
        numbers = read_versions(folder).numbers
        return next((run for run, number in numbers.items() if number == int(match[1])), "")
    return ""


def _forget(found: Versions, run: str) -> None:
    found.numbers.pop(run, None)
    found.stages = {stage: one for stage, one in found.stages.items() if one != run}
    found.earlier = [one for one in found.earlier if one != run]


@contextmanager
def _changed(folder: ModelDir) -> Iterator[Versions]:
    """The versions to be changed, by one process at a time; they are written at the end."""
    place: Path = folder.root / FILE
    with FileLock(folder.root / f".{FILE}.lock", timeout=_LOCK_S):
        found = read_versions(folder)
        yield found
        write_json(place, asdict(found))
