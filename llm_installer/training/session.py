"""What surrounds a run from one start or resume to its end: who watches it, who may end it, where it is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.signals import Requests, stop_requests
from llm_installer.core.seconds import turn
from llm_installer.core.voice import Voice
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.prompts import Prompt
from llm_installer.planning.options import Options
from llm_installer.planning.plan import flat
from llm_installer.training.checkpoint import Checkpoint, CheckpointWriter
from llm_installer.training.reporters import REPORTERS, Everyone, Reporter, Reporting, reporters
from llm_installer.training.reporters.callbacks import CallbackReporter
from llm_installer.training.reporters.requests import RequestsReporter
from llm_installer.training.reporters.trackers import trackers
from llm_installer.training.samples import sampler
from llm_installer.training.trainer import Trainer


@dataclass(frozen=True)
class Session:
    """From one start or resume of a run to its end."""

    save: CheckpointWriter
    report: Everyone
    requests: Requests
    since: Checkpoint | None = None
    """The checkpoint to resume from."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds that were spent before, by phase."""


@dataclass(frozen=True)
class Audience:
    """Who is told what a run does, and what the model is asked meanwhile."""

    options: Options
    voice: Voice
    callbacks: Sequence[object]
    encoder: Encoder
    prompts: Sequence[Prompt]


@contextmanager
def session(
    trainer: Trainer, header: RunHeader, audience: Audience, since: Checkpoint | None, phases: Mapping[str, float]
) -> Iterator[Session]:
    """Signals are heard and reporters started for as long as this lasts; report.on_end is the caller's to call."""
    turn("report")
    options, callbacks = audience.options, audience.callbacks
    with stop_requests() as requests:
        more: dict[str, Reporter] = {"requests": RequestsReporter(header, requests)}
        if callbacks:
            more["callbacks"] = CallbackReporter(header, callbacks, requests, audience.voice.line)
        wanted = Reporting(
            names=list(REPORTERS),
            console=audience.voice.rich,
            tensorboard_port=options.tensorboard_port if options.tensorboard else None,
            trackers=trackers(header, flat(trainer.plan.to_json()), options),
            more=more,
            ask=sampler(trainer, audience.encoder, audience.prompts),
            ending=lambda: bool(requests.number or requests.why),
        )
        with reporters(header, wanted) as report:
            yield Session(CheckpointWriter(header.run), report, requests, since, phases)


@contextmanager
def silent_session(save: CheckpointWriter, since: Checkpoint | None) -> Iterator[Session]:
    """The same for a process that is not the main one: it computes, and writes and says nothing."""
    with stop_requests() as requests:
        yield Session(save, Everyone({}), requests, since)
