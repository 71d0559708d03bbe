"""Who is told what a run does: a table of reporters, and one composite that passes everything on to all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console

from llm_installer.core.errors import UsageError
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters.jsonl import JsonlReporter
from llm_installer.training.reporters.log import LogReporter
from llm_installer.training.reporters.plot import PlotReporter
from llm_installer.training.reporters.protocol import (
    Attentive,
    Linked,
    Moment,
    Quoting,
    Reporter,
    RunHeader,
    Sample,
)
from llm_installer.training.reporters.samples import SamplesReporter
from llm_installer.training.reporters.tensorboard import TensorBoardReporter
from llm_installer.training.reporters.tensorboard_server import TensorBoardServer, serve_tensorboard
from llm_installer.training.reporters.terminal import ConsoleReporter

__all__ = [
    "REPORTERS",
    "Everyone",
    "Reporter",
    "RunHeader",
    "Sample",
    "TensorBoardServer",
    "reporters",
    "serve_tensorboard",
]

REPORTERS: Mapping[str, Callable[[RunHeader, Console], Reporter]] = {
    "log": lambda header, console: LogReporter(header),
    "console": ConsoleReporter,
    "jsonl": lambda header, console: JsonlReporter(header),
    "tensorboard": lambda header, console: TensorBoardReporter(header),
    "samples": lambda header, console: SamplesReporter(header),
    "plot": lambda header, console: PlotReporter(header),
}
"""Name -> how to make one. They are told in the order of their names in a run; log first, for it keeps the notes."""
Ask = Callable[[], Sequence[Sample]]
"""Answers the user's prompts with the weights of this moment. Raises OSError where it cannot."""


@contextlib.contextmanager
def reporters(
    header: RunHeader,
    names: Sequence[str],
    *,
    tensorboard_port: int | None,
    console: Console,
    trackers: Mapping[str, Reporter] | None = None,
    more: Mapping[str, Reporter] | None = None,
    ask: Ask | None = None,
) -> Iterator[Everyone]:
    """One reporter that stands for all of `names`, already started; without names it keeps silent.

    Its on_end is the caller's to call; where that does not happen, the run counts as cut short.
    A port starts the TensorBoard server too, if "tensorboard" is among the names. `trackers` and `more` are
    ready-made ones under their names: trackers begin before the bar is drawn, for they may ask who you are. `ask` gives
    the answers for those who want to quote the model.
    """
    if unknown := [name for name in names if name not in REPORTERS]:
        raise UsageError(f"There is no reporter named {unknown[0]!r}; choose from: {', '.join(REPORTERS)}.")
    made = {name: REPORTERS[name](header, console) for name in names}
    log = {name: reporter for name, reporter in made.items() if name == "log"}
    everyone: dict[str, Reporter] = {**log, **(trackers or {}), **made}
    if tensorboard_port is not None and "tensorboard" in names:
        runs = header.model_dir.runs
        everyone["TensorBoard server"] = TensorBoardServer(runs, tensorboard_port, lambda text: report.on_note(text))
    report = Everyone({**everyone, **(more or {})}, ask)
    try:
        report.on_start(header)
        for name, url in report.urls():
            report.on_note(f"{name.removesuffix(' server')}: {url}")
        yield report
    finally:
        report.close()


class Everyone:
    """Passes everything on; whoever fails on a file or stream is told nothing more, and the others hear of it."""

    def __init__(self, everyone: dict[str, Reporter], ask: Ask | None = None) -> None:
        self._everyone = everyone
        self._ask = ask
        self._state = RunState()
        self._ended = False

    def on_start(self, header: RunHeader) -> None:
        self._state.step = header.start_step
        self._tell(lambda reporter: reporter.on_start(header))

    def on_step(self, report: StepReport) -> None:
        if not self._state.history:  # before the first evaluation nobody has shown the run's own state
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
                return self.on_note(f"Warning: no more sample answers in this run: {error}")
            self._tell(lambda reporter: quote(reporter, evaluation, samples))

    def on_end(self, state: RunState, result: Result | None) -> None:
        self._ended = True
        with contextlib.ExitStack() as all_of_them:  # the others end even when one breaks
            for name in reversed(self._everyone):
                all_of_them.callback(self._tell_one, name, lambda reporter: reporter.on_end(state, result))

    def on_note(self, text: str) -> None:
        self._tell(lambda reporter: reporter.on_note(text))

    def on_moment(self, moment: Moment, state: RunState) -> None:
        self._tell(lambda reporter: reporter.on_moment(moment, state) if isinstance(reporter, Attentive) else None)

    def urls(self) -> list[tuple[str, str]]:
        """(name, address) of everyone who shows the run at one."""
        return [(name, one.url) for name, one in self._everyone.items() if isinstance(one, Linked) and one.url]

    def close(self) -> None:
        """End everyone if that has not happened: then the run was cut short."""
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
    """Tell the answers to a reporter that wants them."""
    if isinstance(reporter, Quoting):
        reporter.on_samples(evaluation, samples)
