"""Every error a user can cause, and the exit code that goes with it.

    InstallerError            exit 1   it cannot be done; the message says what to do instead
    +-- UsageError            exit 2   the command line itself is wrong
    +-- DataError             exit 1   a dataset cannot be found, read or understood
    +-- ModelError            exit 1   a model folder is missing, incomplete or unsuitable
    |   +-- AdapterError      exit 1   an adapter cannot be read, or belongs to another base model
    +-- HubError              exit 1   a hub refuses or lacks what was asked for, or cannot be reached
    +-- TrainingError         exit 1   training cannot start or continue
    |   +-- DiskError         exit 1   a file cannot be written; also an OSError
    |   +-- LeftBehind        exit 1   another process of the run has ended, and this one cannot go on without it
    +-- Interrupted           128 + n  a signal ended the run, and its work is saved
        +-- StoppedAtOnce     128 + n  a second signal did, and what came after the newest checkpoint is lost

A message is one sentence: what is wrong, where, and what to type next.
"""

from __future__ import annotations

from signal import Signals


class InstallerError(Exception):
    """Base of all errors that a user can cause or meet."""

    exit_code = 1

    @property
    def said(self) -> str:
        """The line that a command ends with."""
        return f"Error: {self}"


class UsageError(InstallerError):
    """The command line contradicts itself or names something unknown."""

    exit_code = 2


class DataError(InstallerError):
    """A dataset cannot be found, read or understood."""


class ModelError(InstallerError):
    """A model folder is missing, incomplete or unsuitable."""


class AdapterError(ModelError):
    """An adapter cannot be read, or belongs to another base model."""


class HubError(InstallerError):
    """A hub refuses or lacks what was asked for, or cannot be reached."""


class TrainingError(InstallerError):
    """Training cannot start or continue."""


class DiskError(TrainingError, OSError):
    """A file cannot be written: the disk is full or not writable. Also an OSError, for whoever can do without it."""

    def __init__(self, message: str, number: int | None) -> None:
        super().__init__(message)
        self.errno = number

    def __str__(self) -> str:
        return str(self.args[0])


class LeftBehind(TrainingError):
    """Another process of the run has ended, and this one cannot go on without it."""


class Interrupted(InstallerError):
    """A signal ended the run, and its work is saved. The exit code is 128 plus the number of the signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.number, self.name = signal_number, Signals(signal_number).name
        self.exit_code = 128 + signal_number

    @property
    def said(self) -> str:
        """No error: somebody wished for it."""
        return str(self)


class StoppedAtOnce(Interrupted):
    """A second signal came before the first was obeyed: what was done since the newest checkpoint is lost."""

    def __init__(self, number: int) -> None:
        super().__init__("Stopped at once, as asked twice.", number)
