"""The version and stage of a run as its page and the list say them, and which runs have which."""

from __future__ import annotations

from dataclasses import dataclass

from llm_installer.core.paths import ModelDir
from llm_installer.core.run.record import RUNNING
from llm_installer.runs.listing import RunRow
from llm_installer.runs.versions import CANDIDATE, PRODUCTION, Versions, numbered


@dataclass(frozen=True)
class Stage:
    """Of one run."""

    version: str = ""
    """Such as tiny/3; empty for a run without an adapter."""
    name: str = ""
    """candidate, production or nothing."""
    before: str = ""
    """For the run in production, the version that a roll back would put there."""
    model: str = ""

    @property
    def may_be_candidate(self) -> bool:
        """Whether it can be made the candidate."""
        return bool(self.version) and self.name not in (CANDIDATE, PRODUCTION)

    @property
    def may_be_production(self) -> bool:
        """Whether it can be put into production."""
        return bool(self.version) and self.name != PRODUCTION


def versions_of(folder: ModelDir, rows: list[RunRow]) -> Versions:
    """The versions of a model; a run that is new gets its number. `rows` are all of its runs."""
    usable = [row.run.id for row in rows if row.usable and row.status != RUNNING]
    return numbered(folder, usable, [row.run.id for row in rows])


def version(folder: ModelDir, known: Versions, run: str) -> str:
    """What a run is called as a version."""
    number = known.numbers.get(run)
    return f"{folder.root.name}/{number}" if number else ""


def stage(folder: ModelDir, rows: list[RunRow], run: str) -> Stage:
    """Of one run among all of its model."""
    known = versions_of(folder, rows)
    name = known.stage_of(run)
    before = version(folder, known, known.before) if name == PRODUCTION else ""
    return Stage(version(folder, known, run), name, before, folder.root.name)
