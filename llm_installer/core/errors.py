"""Every error a user can cause, and the exit code that goes with it.

    InstallerError            exit 1   it could not be done; the message says what to do next
    +-- UsageError            exit 2   the command line itself is wrong
    +-- DataError             exit 1   a dataset cannot be found, read or understood
    +-- ModelError            exit 1   a model folder is missing, incomplete or unsuitable
    |   +-- AdapterError      exit 1   an adapter is unreadable or was made for another base
    +-- HubError              exit 1   a hub refused, lost or lacks what was asked for
    +-- TrainingError         exit 1   training cannot start or cannot go on
    +-- Interrupted           128 + n  a signal ended the run after its work was saved

A message is one sentence: what is wrong, where, and what to type next.
"""

from __future__ import annotations


class InstallerError(Exception):
    """Base of everything this program refuses to do."""

    exit_code = 1


class UsageError(InstallerError):
    """The command line contradicts itself or names something unknown."""

    exit_code = 2


class DataError(InstallerError):
    """A dataset cannot be found, read or understood."""


class ModelError(InstallerError):
    """A model folder is missing, incomplete or unsuitable."""


class AdapterError(ModelError):
    """An adapter is unreadable or was made for another base model."""


class HubError(InstallerError):
    """A hub refused, lost or lacks what was asked for."""


class TrainingError(InstallerError):
    """Training cannot start or cannot go on."""


class Interrupted(InstallerError):
    """A signal ended the run; what was learned so far is saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
