"""How a training looks before its first step and after its last: what it is about, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from llm_installer.core.run.samples import Sample
from llm_installer.core.seconds import said as seconds_said
from llm_installer.core.text import counted, perplexity, short_path, shortened
from llm_installer.data.cut_rows import Side
from llm_installer.data.prepare import Given, Prepared
from llm_installer.data.preview import Preview
from llm_installer.planning.fitting import memory_rows
from llm_installer.planning.settings import flag
from llm_installer.runs.job import Job
from llm_installer.runs.outcome import Outcome
from llm_installer.ui.drawing import drawing
from llm_installer.ui.plan import memory, plan
from llm_installer.ui.rows import MarkedRows
from llm_installer.ui.tables import Cell, Columns, facts

if TYPE_CHECKING:
    from llm_installer.inference.before_after import Comparison

SHOWN_SKIPPED = 5
SHOWN_CUT = 3
SHOWN_ANSWERS = 4
"""Answers to questions from the data that are shown; those to the user's own follow."""
SHOWN_SAMPLES = 3
SHOWN_FILES = 3
NOTHING = "(nothing)"


@drawing.register
def job(found: Job) -> Iterator[RenderableType]:
    """What is trained on what, where, what was skipped of the data, and every decision with its reason."""
    info, loaded = found.info, found.given.loaded
    yield Text()
    yield facts(
        ("model", f"{info.name}, {info.size} parameters, {found.handler.name} family"),
        ("machine", found.hardware.summary),
        *_data(found.given, found.prepared, found.options.max_examples is not None),
    )
    for note in (*loaded.notices, *loaded.warnings):
        yield Text(f"  Note: {note}")
    yield from _skipped(found.given, found.prepared)
    yield from _cut(found.prepared)
    for note in found.notes:
        yield Text()
        yield Text(note)
    yield from plan(found.plan)
    if found.options.dry_run:
        yield from memory(memory_rows(found.plan.setup(info, found.hardware), found.plan.micro_batch_tokens))


@drawing.register
def preview(found: Preview) -> Iterator[RenderableType]:
    """The first rows as the model sees them."""
    yield MarkedRows(found)


@drawing.register
def outcome(found: Outcome) -> Iterator[RenderableType]:
    """Answers before and after, how the run ended, what it left, and what to type next."""
    if report := found.report:
        yield from _comparison(report.answers, report.validation)
        yield from samples(report.samples)
    yield from _closing(found)


def _comparison(found: Sequence[Comparison], validation: bool) -> Iterator[RenderableType]:
    """Answers of base and tuned model side by side, and how many of all `found` ended by themselves."""
    if not found:
        return
    where = "" if validation else " (on training rows: there are no validation rows)"
    yield from _heading(f"Before and after{where}")
    of_data, own = [item for item in found if item.expected], [item for item in found if not item.expected]
    for item in [*of_data[:SHOWN_ANSWERS], *own]:
        yield answers(item.prompt, item.expected, base=item.base.text, tuned=item.tuned.text)
        yield Text()
    base, tuned = (
        sum(answer.ended for answer in side) for side in zip(*((i.base, i.tuned) for i in found), strict=True)
    )
    yield Text(f"  Answers that ended by themselves: {tuned} of {len(found)} tuned, {base} of {len(found)} base.")


def samples(found: Sequence[tuple[int, Sequence[Sample]]]) -> Iterator[RenderableType]:
    """Answers to the user's own prompts, at the first and at the best evaluation."""
    if not found:
        return
    yield from _heading("Your own prompts")
    for number, sample in enumerate(found[0][1][:SHOWN_SAMPLES]):
        said = [(f"step {step:,}", shortened(answers[number].answer) or NOTHING) for step, answers in found]
        yield facts(("prompt", shortened(sample.prompt)), *said)
        yield Text()


def answers(prompt: str, expected: str, **said: str) -> Columns:
    """What is said to one prompt, by whom; what the data says, where it says something."""
    rows: list[tuple[str, Cell]] = [("prompt", shortened(prompt))]
    rows += [("expected", shortened(expected))] if expected else []
    styles = {"base": "dim", "tuned": "green"}
    rows += [(who, Text(shortened(text) or NOTHING, style=styles.get(who, ""))) for who, text in said.items()]
    return facts(*rows)


def _closing(found: Outcome) -> Iterator[RenderableType]:
    """How it ended, what it brought, where it is, and what to type next."""
    result = found.result
    yield from _heading("Done")
    yield Text(f"  Stopped because {result.stop_reason}.")
    if result.base_loss is not None and result.best_loss is not None:
        change = result.best_loss / result.base_loss - 1 if result.base_loss else 0.0
        perplexities = f"perplexity {perplexity(result.base_loss)} -> {perplexity(result.best_loss)}"
        yield Text(f"  Loss {result.base_loss:.4f} -> {result.best_loss:.4f} ({change:+.0%}), {perplexities}.")
        yield Text(f"  The best of {counted(result.steps, 'step')} was step {result.best_step:,}.")
    for sentence in (*found.found, *([result.speed.said()] if result.speed else [])):
        yield Text(f"  {sentence}")
    if found.seconds:
        yield Text(f"  {seconds_said(found.seconds)}")
    for sentence in found.lora.said:
        yield Text(f"  {sentence}")
    if found.report_file:
        yield Text(f"  Report: {short_path(found.report_file)}")
    yield Text(f"  Adapter: {short_path(result.adapter)}")
    yield Text(f"  Talk to it: {found.talk}")


def _data(given: Given, prepared: Prepared, sampled: bool) -> Iterator[tuple[str, str]]:
    files = [f"{file.name} ({', '.join(file.formats)})" for file in given.loaded.files[:SHOWN_FILES]]
    more = len(given.loaded.files) - SHOWN_FILES
    files += [f"and {counted(more, 'more file')}"] if more > 0 else []
    supervised, tokens = int(prepared.train.counts.sum()), int(prepared.train.lengths.sum())
    share = f"{supervised / tokens:.0%} of {tokens:,} tokens are supervised"
    yield "data", ", ".join(files)
    training, *validation = prepared.sides
    yield "", f"{_rows(training, len(prepared.train))}; {share}"
    if sampled and any(side.pieces.texts for side in prepared.sides):
        yield "", f"{flag('max_examples')} counts texts, not pieces"
    yield from given.changes
    if mix := prepared.mix:
        drawn = zip(mix.names, mix.counts, mix.rows, strict=True)
        each = ", ".join(f"{count:,} from {len(rows):,} of {name}" for name, count, rows in drawn)
        yield "mix", str(mix)
        yield "", f"an epoch is {counted(mix.size, 'row')}: {each}"
    cut = "".join(f", {_pieces(side)}" for side in validation if side.pieces.texts)
    yield "validation", f"{given.split.reason}{cut}"
    if count := given.split.duplicates:
        yield "duplicates", f"{counted(count, 'identical row is', 'identical rows are')} trained on once"


def _rows(side: Side, rows: int) -> str:
    """What is trained on; of texts that are cut into pieces, both numbers."""
    if not side.pieces.texts:
        return f"{counted(rows, 'row')} to train on"
    if side.rows.text.all():
        return f"{counted(len(side.rows), 'text')} to train on, {_pieces(side)}"
    return f"{counted(rows, 'row')} to train on; {_pieces(side)}"


def _pieces(side: Side) -> str:
    """Into how many pieces the texts are cut that are too long."""
    found, most = side.pieces, f"of at most {side.limit:,} tokens"
    if side.rows.text.all():
        whole = len(side.rows) - found.texts  # a short text is one piece
        return f"cut into {counted(found.pieces + whole, 'piece')} {most}"
    return f"{counted(found.texts, 'long text')} among them, cut into {counted(found.pieces, 'piece')} {most}"


def _skipped(given: Given, prepared: Prepared) -> Iterator[RenderableType]:
    whole = [record for record in prepared.dropped if not record.partly]
    partly = [record for record in prepared.dropped if record.partly]
    for records, count, what in (
        ([*given.loaded.dropped, *whole], given.loaded.dropped_count + len(whole), "skipped"),
        (partly, len(partly), "not learned completely"),
    ):
        if count:
            yield Text(f"  {counted(count, 'record is', 'records are')} {what}:")
            for record in records[:SHOWN_SKIPPED]:
                yield Text(f"    {record.origin}: {record.reason}")
            if count > SHOWN_SKIPPED:
                yield Text("    ... all of them, with reasons, are in dropped.jsonl of the run's folder")


def _cut(prepared: Prepared) -> Iterator[RenderableType]:
    count = prepared.cut.rows
    if not count:
        return
    yield Text(f"  {counted(count, 'row is', 'rows are')} cut, and trained on without what they lose:")
    for row in islice(prepared.cut_rows, SHOWN_CUT):
        yield Text(f"    {row}")
    if count > SHOWN_CUT:
        yield Text("    ... all of them, with what they lose, are in dropped.jsonl of the run's folder")


def _heading(text: str) -> Iterator[Text]:
    yield Text()
    yield Text(text, style="bold")
