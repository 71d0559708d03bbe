"""What people see before and after a run: tables and rows, calm, and legible without colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.paths import ModelDir
from llm_installer.core.state import Result
from llm_installer.planning.plan import Plan, plan_rows

if TYPE_CHECKING:
    from llm_installer.core.examples import Example
    from llm_installer.data.encoding.encode import Encoder, Row
    from llm_installer.data.prepare import Given, Prepared
    from llm_installer.inference.before_after import Comparison
    from llm_installer.install.doctor import Check
    from llm_installer.install.installed import Installed
    from llm_installer.training.reporters import Sample

SHOWN_DROPPED = 5
SHOWN_SAMPLES = 3
LEARNED, MASKED = "green", "dim"


class Console:
    """The one voice of the program; `rich` is what progress bars draw on."""

    def __init__(self, stderr: bool = False, rich: RichConsole | None = None) -> None:
        self.rich = rich or RichConsole(stderr=stderr, highlight=False)

    def line(self, text: str = "") -> None:
        """A plain line, never cut or coloured by its content."""
        self.rich.print(Text(text), soft_wrap=True)

    def sentence(self, text: str) -> None:
        """Indented, and in a terminal broken between words."""
        if self.rich.is_terminal:
            self.rich.print(Padding(Text(text), (0, 0, 0, 2)))
        else:
            self.line(f"  {text}")

    def parts(self, parts: Iterable[RenderableType]) -> None:
        """Ready-made pieces, one below the other."""
        for part in parts:
            self.rich.print(part)

    def heading(self, text: str) -> None:
        """The name of a part."""
        self.rich.print()
        self.rich.print(Text(text, style="bold"))

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say what takes a moment: a spinner on a terminal, nothing in a pipe."""
        if not self.rich.is_terminal:
            yield
            return
        with self.rich.status(f"{what} ..."):
            yield

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """How much of something long is done, for whoever is told (done, total): a bar that goes away again on a
        terminal, nothing in a pipe."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.rich, transient=True, disable=not self.rich.is_terminal) as bar:
            task = bar.add_task(what, total=None, visible=False)
            yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)

    def opening(self, info: ModelInfo, handler: Handler, hardware: Hardware, given: Given, prepared: Prepared) -> None:
        """What is trained, on what, where; and what was left out of the data."""
        loaded = given.loaded
        learned, tokens = int(prepared.train.counts.sum()), int(prepared.train.lengths.sum())
        files = ", ".join(f"{f.name} ({', '.join(f.formats)})" for f in loaded.files[:3])
        more = f" and {len(loaded.files) - 3} more files" if len(loaded.files) > 3 else ""
        table = _table()
        table.add_row("model", f"{info.name}, {info.size} parameters, {handler.name} family")
        table.add_row("machine", hardware.summary)
        table.add_row("data", f"{files}{more}")
        table.add_row(
            "", f"{len(prepared.train):,} rows to learn, {learned / tokens:.0%} of their {tokens:,} tokens are answers"
        )
        for name, change in given.changes:
            table.add_row(name, change)
        if prepared.mix:
            mix = prepared.mix
            table.add_row("mix", str(mix))
            drawn = zip(mix.names, mix.counts, mix.rows, strict=True)
            each = ", ".join(f"{count:,} from {len(rows):,} of {name}" for name, count, rows in drawn)
            table.add_row("", f"an epoch is {mix.size:,} rows: {each}")
        table.add_row("held out", given.split.reason)
        if given.split.duplicates:
            table.add_row("duplicates", f"{given.split.duplicates:,} identical rows are learned once")
        self.rich.print()
        self.rich.print(Padding(table, (0, 0, 0, 1)))
        for note in (*loaded.notices, *loaded.warnings):
            self.line(f"  Note: {note}")
        self._dropped(given, prepared)

    def _dropped(self, given: Given, prepared: Prepared) -> None:
        count = given.loaded.dropped_count + len(prepared.dropped)
        if not count:
            return
        self.line(f"  {count:,} records are left out:")
        for record in [*given.loaded.dropped, *prepared.dropped][:SHOWN_DROPPED]:
            self.line(f"    {record.origin}: {record.reason}")
        if count > SHOWN_DROPPED:
            self.line("    ... all of them, with reasons, in the run's dropped.jsonl")

    def plan(self, plan: Plan) -> None:
        """Every decision with its reason."""
        self.heading("Plan")
        table = _table()
        table.add_column(overflow="fold")
        table.columns[2].style = "dim"
        for name, value, why in plan_rows(plan):
            table.add_row(name, value, why)
        self.rich.print(Padding(table, (0, 0, 0, 1)))
        self.rich.print()

    def memory(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """What other ways to hold the model would need."""
        self.heading("Memory")
        table = _table()
        for row in rows:
            table.add_row(*row)
        self.rich.print(Padding(table, (0, 0, 0, 1)))
        self.rich.print()

    def rows(self, examples: Sequence[Example], encoder: Encoder, count: int) -> None:
        """Real rows, token by token: learned ones green and underlined, or in [[ ]] where there is no colour."""
        from llm_installer.data.encoding.chat import CannotRender

        plain = not self.rich.is_terminal or self.rich.no_color
        self.line(
            "Learned tokens are in [[ ]], the rest is context."
            if plain
            else "Learned tokens are green, the rest is context."
        )
        for example in examples[:count]:
            try:
                encoded = encoder.encode(example)
            except CannotRender as error:
                self.heading(f"{example.origin}: left out, {error}")
                continue
            for row in encoded:
                share = row.learned.mean()
                self.heading(
                    f"{example.origin}  ({len(row.ids)} tokens, {int(row.learned.sum())} learned, {share:.0%})"
                )
                self.rich.print(_marked(row, encoder, plain), soft_wrap=True)

    def comparison(self, shown: Sequence[Comparison], found: Sequence[Comparison], held_out: bool) -> None:
        """Answers of base and tuned model side by side, and how many of all `found` ended by themselves."""
        if not found:
            return
        self.heading("Before and after" + ("" if held_out else " (training rows: nothing is held out)"))
        for item in shown:
            self.side_by_side(item.prompt, item.expected, item.base.text, item.tuned.text)
        ended, base = (sum(a.ended for a in column) for column in zip(*((i.tuned, i.base) for i in found), strict=True))
        self.line(f"  Answers that ended by themselves: {ended} of {len(found)} tuned, {base} of {len(found)} base.")

    def samples(self, found: Sequence[tuple[int, Sequence[Sample]]]) -> None:
        """Answers to the user's own prompts, at the first and at the best measurement."""
        if not found:
            return
        self.heading("Your own prompts")
        for number, sample in enumerate(found[0][1][:SHOWN_SAMPLES]):
            table = _table()
            table.add_row("prompt", _short(sample.prompt))
            for step, said in found:
                table.add_row(f"step {step:,}", _short(said[number].answer) or "(nothing)")
            self.rich.print(Padding(table, (0, 0, 1, 1)))

    def side_by_side(self, prompt: str, expected: str, base: str, tuned: str) -> None:
        """What base and tuned model say to one prompt."""
        table = _table()
        table.add_row("prompt", _short(prompt))
        if expected:
            table.add_row("expected", _short(expected))
        table.add_row("base", Text(_short(base) or "(nothing)", style="dim"))
        table.add_row("tuned", Text(_short(tuned) or "(nothing)", style=LEARNED))
        self.rich.print(Padding(table, (0, 0, 1, 1)))

    def closing(
        self, folder: ModelDir, result: Result, switched: bool, found: Sequence[str] = (), report: Path | None = None
    ) -> None:
        """How it ended, what it brought, what else was `found`, what to type next."""
        self.heading("Done")
        self.sentence(f"Stopped because {result.stop_reason}.")
        if result.base_loss is not None and result.best_loss is not None:
            change = result.best_loss / result.base_loss - 1 if result.base_loss else 0.0
            perplexity = f"perplexity {_exp(result.base_loss)} -> {_exp(result.best_loss)}"
            self.line(f"  Loss {result.base_loss:.4f} -> {result.best_loss:.4f} ({change:+.0%}), {perplexity}.")
            self.line(f"  The best of {result.steps} steps was step {result.best_step}.")
        for text in found:
            self.sentence(text)
        if result.speed:
            self.sentence(result.speed.said())
        if report:
            self.line(f"  Report: {report}")
        self.line(f"  Adapter: {result.adapter}")
        if not result.improved:
            self.line("  No measurement beat the base model, so ./lora is as it was.")
        chosen = "" if switched else f" --lora {result.adapter}"
        self.line(f"  Talk to it: {folder.root}/start.sh{chosen}")

    def models(self, found: Sequence[Installed]) -> None:
        """The installed models."""
        if not found:
            self.line("No model is installed yet; begin with: llm-installer quickstart")
            return
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("name", "parameters", "on disk", "installed", "adapter"):
            table.add_column(name)
        for model in found:
            state = model.adapter or "-" if model.complete else "incomplete: install it again"
            table.add_row(model.name, model.size, f"{model.bytes / GIB:.2f} GB", model.installed[:10], state)
        self.rich.print(table)

    def checks(self, found: Sequence[Check]) -> None:
        """The doctor's findings."""
        marks = {True: ("ok", "green"), False: ("wrong", "red"), None: ("note", "yellow")}
        table = _table()
        table.add_column(overflow="fold")
        for check in found:
            word, style = marks[check.ok]
            fix = f"\n{check.fix}" if check.fix and check.ok is not True else ""
            table.add_row(Text(word, style=style), check.name, check.detail + fix)
        self.rich.print(table)

    def handlers(self, found: Sequence[Handler]) -> None:
        """The model families."""
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("name", "model types", "layers", "from"):
            table.add_column(name, overflow="fold")
        for handler in found:
            table.add_row(
                handler.name,
                ", ".join(handler.model_types) or "all others",
                ", ".join(handler.target_modules),
                handler.source,
            )
        self.rich.print(table)


def _table() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _marked(row: Row, encoder: Encoder, plain: bool) -> Text:
    """The row as text, runs of learned tokens marked."""
    text, start = Text(), 0
    while start < len(row.ids):
        end = start
        while end < len(row.ids) and row.learned[end] == row.learned[start]:
            end += 1
        piece = str(encoder.tokenizer.decode(row.ids[start:end].tolist(), skip_special_tokens=False))
        if row.learned[start]:
            text.append(f"[[{piece}]]" if plain else piece, style="" if plain else f"{LEARNED} underline")
        else:
            text.append(piece, style="" if plain else MASKED)
        start = end
    return text


def _short(text: str, limit: int = 300) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def _exp(loss: float) -> str:
    perplexity = math.exp(min(loss, 50))
    return f"{perplexity:.3g}" if perplexity < 1000 else f"{perplexity:,.0f}"
