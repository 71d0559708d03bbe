"""What can be done with a run or a job, as the buttons of its page."""

from __future__ import annotations

from urllib.parse import quote

from llm_installer.runs.listing import RunRow
from llm_installer.studio import states
from llm_installer.studio.store.tables import Job

Action = tuple[str, str, str]
"""(what is done, its words, how its button looks)."""
_ASKS: list[Action] = [
    ("stop", "Stop here and keep the best", "quiet edged"),
    ("save", "Save now", "quiet edged"),
]
_DELETE: Action = ("delete", "Delete", "quiet risky")


def job_actions(job: Job, row: RunRow | None) -> list[Action]:
    """Of a job; `row` is its run, where it is on this machine."""
    found: list[Action] = []
    if job.state == states.TRAINING and row:
        found += _ASKS
    if job.state in states.CLAIMABLE:
        found.append((f"/jobs/{quote(job.id)}/colab", "Train it on Colab", "quiet edged"))
    if job.state not in states.ENDED and job.state != states.CANCELLING:
        found.append(("cancel", "Cancel", "quiet risky"))
    if job.state in (states.FAILED, states.CANCELLED):
        found.append(("again", "Go on", "main"))
    if job.state not in states.ENDED:
        return found
    return [*found, *(run_actions(row) if row else [_DELETE])]


def run_actions(row: RunRow) -> list[Action]:
    """Of a run."""
    if row.status == "running":
        return list(_ASKS)
    found: list[Action] = []
    if row.usable:
        found.append((f"/chat/{quote(row.run.root.parent.parent.name)}", "Talk to it, beside the base", "main"))
        if not row.current:
            found.append(("use", "Use this one", "quiet edged"))
    return [*found, _DELETE]


def question(row: RunRow | None) -> str:
    """What is asked before something is deleted."""
    if row is None:
        return "Delete this training and what is known of it, for good?"
    return f"Delete this run with its adapter, for good?{' It is in use; afterwards none is.' if row.current else ''}"
