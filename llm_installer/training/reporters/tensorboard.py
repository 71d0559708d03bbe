"""Event files for TensorBoard, written without torch.

Curves that TensorBoard draws on one card have one name, and are in folders of their own.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from io import BytesIO

from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.samples import Sample
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters.lines import append_whole
from llm_installer.training.reporters.protocol import Event
from llm_installer.training.reporters.values import CURVES, evaluation_values, joined, peak_memory, step_values

FLUSH_SECONDS = 5.0
"""How old the newest point in the file may be while the run takes steps."""


class TensorBoardReporter:
    """Appends whole records to an event file in the run's logs, and to one for each curve that shares a card."""

    def __init__(self, header: RunHeader, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._flushed = now()
        self._records: dict[str, bytearray] = {}
        """What is still to be written, by the folder below the logs."""
        self._logs, self._start_step = header.run.logs, header.start_step
        self._name = f"events.out.tfevents.{int(self._flushed):010}.{socket.gethostname()}.{os.getpid()}"

    def on_start(self, header: RunHeader) -> None:
        """Open the file; a resumed run withdraws the points after its checkpoint."""
        before = [folder for folder in CURVES if (self._logs / folder).is_dir()]
        for folder in ("", *(before if header.start_step else ())):
            self._add(folder, b"")
        self._flush()

    def on_step(self, report: StepReport) -> None:
        """One point for each curve that has a value at every step."""
        self._add("", _scalars_record(self._now(), report.step, step_values(report)))
        if self._now() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """The losses on the two evaluation sets, and peak memory."""
        values = evaluation_values(evaluation) | peak_memory()
        self._add("", _scalars_record(self._now(), evaluation.step, values))
        for curve, loss in joined(evaluation).items():
            self._add(curve, _scalars_record(self._now(), evaluation.step, loss))
        self._flush()

    def on_samples(self, evaluation: Evaluation, samples: Sequence[Sample]) -> None:
        """The answers as text, one tag for each prompt."""
        texts = {f"samples/{i}": f"**{s.prompt}**\n\n{s.answer}" for i, s in enumerate(samples, 1)}
        self._add("", _texts_record(self._now(), evaluation.step, texts))
        self._flush()

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Write how fast the run was, and what is left to write."""
        if result and result.speed:
            self._add("", _scalars_record(self._now(), state.step, result.speed.scalars()))
        self._flush()

    def on_event(self, event: Event, state: RunState) -> None:
        """Before a checkpoint, everything until then is written."""
        if event == "save":
            self._flush()

    def on_note(self, text: str) -> None:
        """Notes are in train.log."""

    def _add(self, folder: str, record: bytes) -> None:
        """Keep a record for the file in a folder, which begins with its version and what a resumed run takes back."""
        if folder not in self._records:
            start = self._start_step
            again = _restart_record(self._now(), start + 1) if start else b""
            self._records[folder] = bytearray(_version_record(self._now()) + again)
        self._records[folder] += record

    def _flush(self) -> None:
        self._flushed = self._now()
        for folder, records in self._records.items():
            data, records[:] = bytes(records), b""
            path = self._logs / folder / self._name
            path.parent.mkdir(parents=True, exist_ok=True)
            append_whole(path, data)


def _framed(event: bytes) -> bytes:
    """The event with the length and checksums that make it a record."""
    from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

    buffer = BytesIO()
    RecordWriter(buffer).write(event)
    return buffer.getvalue()


def _version_record(now: float) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    return _framed(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())


def _restart_record(now: float, step: int) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    start = SessionLog(status=SessionLog.START)
    return _framed(Event(wall_time=now, step=step, session_log=start).SerializeToString())


def _scalars_record(now: float, step: int, values: dict[str, float]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

    points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    return _framed(Event(wall_time=now, step=step, summary=Summary(value=points)).SerializeToString())


def _texts_record(now: float, step: int, texts: dict[str, str]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.metadata import create_summary_metadata  # type: ignore[import-untyped]
    from tensorboard.util.tensor_util import make_tensor_proto  # type: ignore[import-untyped]

    shown = create_summary_metadata(display_name="", description="")
    points = [Summary.Value(tag=tag, tensor=make_tensor_proto([text]), metadata=shown) for tag, text in texts.items()]
    return _framed(Event(wall_time=now, step=step, summary=Summary(value=points)).SerializeToString())
