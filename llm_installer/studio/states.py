"""The states of a job, and which may follow which: a table without a database.

Pages and the notebook use `status_of`, `RUNNING`, `ENDED` and `words_of`; whoever changes a state calls
store.jobs.move, which asks `allowed`.
"""

from __future__ import annotations

from llm_installer.core.run.record import FINISHED

QUEUED, PREPARING, INSTALLING = "queued", "preparing", "installing"
TRAINING, UPLOADING, COMPLETED = "training", "uploading", "completed"
CANCELLING, CANCELLED, FAILED, RESUMABLE = "cancelling", "cancelled", "failed", "resumable"

_STEPS = (PREPARING, INSTALLING, TRAINING, UPLOADING)
_GIVEN_UP = (CANCELLING, FAILED, RESUMABLE)
ARROWS: dict[str, tuple[str, ...]] = {
    QUEUED: (PREPARING, CANCELLED, FAILED),
    PREPARING: (INSTALLING, TRAINING, UPLOADING, COMPLETED, *_GIVEN_UP),
    INSTALLING: (TRAINING, UPLOADING, COMPLETED, *_GIVEN_UP),
    TRAINING: (UPLOADING, COMPLETED, *_GIVEN_UP),
    UPLOADING: (COMPLETED, *_GIVEN_UP),
    RESUMABLE: (*_STEPS, CANCELLED, FAILED),
    CANCELLING: (CANCELLED, COMPLETED, FAILED),
    COMPLETED: (),
    CANCELLED: (QUEUED,),
    FAILED: (QUEUED,),
}
"""What may follow each state. A resumable job is claimed again, or its worker comes back to where it was; a job that
is being cancelled may still have been faster; one that failed or was cancelled is queued again only when asked."""
STATES = tuple(ARROWS)

CLAIMABLE = (QUEUED, RESUMABLE)
"""Waiting for a worker."""
RUNNING = _STEPS
"""Held by a worker that goes on."""
HELD = (*_STEPS, CANCELLING)
"""Held by a worker, with a lease."""
ENDED = (COMPLETED, CANCELLED, FAILED)
"""Nothing more happens by itself."""

STATUSES = ("pending", "training", "completed", "failed")
_STATUS = {QUEUED: "pending", COMPLETED: "completed", FAILED: "failed", CANCELLED: "failed"}
_WORDS = {
    QUEUED: "waiting for its turn",
    PREPARING: "getting ready",
    INSTALLING: "installing the model",
    TRAINING: "training",
    UPLOADING: "storing the result",
    COMPLETED: "completed",
    CANCELLING: "being cancelled",
    CANCELLED: "cancelled",
    FAILED: "failed",
    RESUMABLE: "waiting to be resumed",
}


def allowed(before: str, after: str) -> bool:
    """Whether a job in one state may be put into another."""
    return after in ARROWS[before]


def status_of(state: str) -> str:
    """The coarse status that a state is: one of STATUSES."""
    return _STATUS.get(state, "training")


def words_of_run(status: str) -> str:
    """The status of a run, by the words of jobs where they mean the same."""
    return _WORDS[COMPLETED] if status == FINISHED else status


def words_of(state: str) -> str:
    """A state as people say it."""
    return _WORDS[state]
