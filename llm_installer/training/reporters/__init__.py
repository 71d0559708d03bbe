"""Reporters show what a run does: a table of them, and one composite that passes everything on to all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from llm_installer.core.errors import UsageError
from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.samples import Ask, Sample
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters.jsonl import JsonlReporter
from llm_installer.training.reporters.log import LogReporter
from llm_installer.training.reporters.plot import PlotReporter
from llm_installer.training.reporters.protocol import Attentive, Ending, Event, Linked, Quoting, Reporter
from llm_installer.training.reporters.samples import SamplesReporter
from llm_installer.training.reporters.tensorboard import TensorBoardReporter
from llm_installer.training.reporters.tensorboard_server import TensorBoardServer, serve_tensorboard
from llm_installer.training.reporters.terminal import TerminalReporter

__all__ = [
    "REPORTERS",
    "Everyone",
    "Reporter",
    "Reporting",
    "TensorBoardServer",
    "reporters",
    "serve_tensorboard",
]

REPORTERS: Mapping[str, Callable[[RunHeader, Console], Reporter]] = {
    "log": lambda header, console: LogReporter(header),
    "terminal": TerminalReporter,
    "jsonl": lambda header, console: JsonlReporter(header),
    "tensorboard": lambda header, console: TensorBoardReporter(header),
    "samples": lambda header, console: SamplesReporter(header),
    "plot": lambda header, console: PlotReporter(header),
}
"""Name -> how to make one. A run tells them in the order of their names; log comes first, for it keeps the notes."""


@dataclass(frozen=True)
class Reporting:
    """Which reporters a run has, and what they work with."""

    names: Sequence[str]
    """Of REPORTERS."""
    console: Console
    """What the terminal reporter draws on."""
    tensorboard_port: int | None = None
    """Where the TensorBoard server starts, if "tensorboard" is among the names; None for no server."""
    trackers: Mapping[str, Reporter] = field(default_factory=dict)
    """By name. They start before the progress bar is drawn, for they may ask the user to log in."""
    more: Mapping[str, Reporter] = field(default_factory=dict)
    """Reporters made by the caller, by name."""
    ask: Ask | None = None
    """Gives the answers for reporters that quote the model."""
    ending: Callable[[], bool] = lambda: False
    """Whether the run was asked to end."""


@contextlib.contextmanager
def reporters(header: RunHeader, wanted: Reporting) -> Iterator[Everyone]:
    """One reporter that stands for all that are `wanted`, already started; where there are none, it does nothing.

    Its on_end is the caller's to call; where that does not happen, the run counts as interrupted.
    Raises UsageError for a name that REPORTERS does not have.
    """
    if unknown := [name for name in wanted.names if name not in REPORTERS]:
        raise UsageError(f"There is no reporter named {unknown[0]!r}; choose from: {', '.join(REPORTERS)}.")
    made = {name: REPORTERS[name](header, wanted.console) for name in wanted.names}
    for reporter in made.values():
        if isinstance(reporter, Ending):
            reporter.ending = wanted.ending
    log = {name: reporter for name, reporter in made.items() if name == "log"}
    everyone: dict[str, Reporter] = {**log, **wanted.trackers, **made}
    if wanted.tensorboard_port is not None and "tensorboard" in wanted.names:
        runs = header.model_dir.runs
        server = TensorBoardServer(runs, wanted.tensorboard_port, lambda text: report.on_note(text))
        everyone["TensorBoard server"] = server
    report = Everyone({**everyone, **wanted.more}, wanted.ask)
    try:
        report.on_start(header)
        for name, url in report.urls():
            report.on_note(f"{name.removesuffix(' server')}: {url}")
        yield report
    finally:
        report.close()


class Everyone:
    """Passes everything on. A reporter that fails on a file or stream is turned off, with one warning to the others."""

    def __init__(self, everyone: dict[str, Reporter], ask: Ask | None = None) -> None:
        self._everyone = everyone
        self._ask = ask
        self._state = RunState()
        self._ended = False

    def on_start(self, header: RunHeader) -> None:
        self._state = header.before  # it holds what earlier sessions reached
        self._state.step = header.start_step
        self._tell(lambda reporter: reporter.on_start(header))

    def on_step(self, report: StepReport) -> None:
        if not self._state.history:  # until the first evaluation the run's own state is unknown here
            self._state.step = report.step
        self._tell(lambda reporter: reporter.on_step(report))

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        self._state = state
        self._tell(lambda reporter: reporter.on_evaluation(evaluation, state, best))
        if self._ask:
            try:
                samples = self._ask()
            except OSError as error:
                self._ask = None
                return self.on_note(f"Warning: this run gives no more sample answers: {error}")
            self._tell(lambda reporter: quote(reporter, evaluation, samples))

    def on_end(self, state: RunState, result: Result | None) -> None:
        self._ended = True
        with contextlib.ExitStack() as all_of_them:  # the others end even if one fails
            # Callbacks are called from the last to the first: the bar moves until the others are done.
            for name in sorted(reversed(self._everyone), key=lambda name: name != "terminal"):
                all_of_them.callback(self._tell_one, name, lambda reporter: reporter.on_end(state, result))

    def on_note(self, text: str) -> None:
        self._tell(lambda reporter: reporter.on_note(text))

    def on_event(self, event: Event, state: RunState) -> None:
        self._tell(lambda reporter: reporter.on_event(event, state) if isinstance(reporter, Attentive) else None)

    def urls(self) -> list[tuple[str, str]]:
        """(name, URL) of the reporters that show the run at one."""
        return [(name, one.url) for name, one in self._everyone.items() if isinstance(one, Linked) and one.url]

    def close(self) -> None:
        """End all reporters if that has not happened yet: then the run was interrupted."""
        if not self._ended:
            self.on_end(self._state, None)

    def _tell(self, call: Callable[[Reporter], None]) -> None:
        for name in list(self._everyone):
            self._tell_one(name, call)

    def _tell_one(self, name: str, call: Callable[[Reporter], None]) -> None:
        if reporter := self._everyone.get(name):
            try:
                call(reporter)
            except OSError as error:
                del self._everyone[name]
                self.on_note(f"Warning: {name} is off for the rest of this run: {error}")


def quote(reporter: Reporter, evaluation: Evaluation, samples: Sequence[Sample]) -> None:
    """Give the answers to a reporter that wants them."""
    if isinstance(reporter, Quoting):
        reporter.on_samples(evaluation, samples)
