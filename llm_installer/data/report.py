"""What `llm-installer data` says about a dataset: what was found, kept and left out, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from llm_installer.core.examples import Dropped
from llm_installer.data.fix import Fixed
from llm_installer.data.mixing import Mix
from llm_installer.data.splitting import Split
from llm_installer.data.store.conversion import FileReport
from llm_installer.data.store.load import Loaded

if TYPE_CHECKING:
    from rich.console import RenderableType

_REASONS_SHOWN = 8
_PLACES_SHOWN = 3


@dataclass(frozen=True)
class TokenFacts:
    """What the tokenizer of a model adds: lengths, and how much of them is learned."""

    quantiles: Mapping[str, int]
    """Length in tokens by name, shortest first, as in {"half": 120, "95%": 610, "longest": 2040}."""
    supervised_share: float
    """Share of all tokens that are learned."""
    truncated_share: float
    """Share of the rows that are longer than `max_seq_length`."""
    max_seq_length: int
    longest: tuple[tuple[str, int], ...]
    """The longest rows: place (file:line) and length."""


@dataclass(frozen=True)
class DataReport:
    """Everything there is to say about a dataset."""

    examples: int
    """Accepted records, before any split, removal of duplicates or cutting."""
    train: int
    validation: int
    validation_reason: str
    duplicates: int
    overlap: int
    """Given validation rows left out because their prompt is trained on."""
    dropped_count: int
    dropped: tuple[Dropped, ...]
    """The first thousand of them."""
    dropped_reasons: Mapping[str, int]
    formats: Mapping[str, int]
    """Records by format."""
    files: tuple[FileReport, ...]
    warnings: tuple[str, ...]
    notices: tuple[str, ...]
    tokens: TokenFacts | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    """What options make of the examples, in words: pieces, prefixes, sample, mix."""
    epoch: Mapping[str, int] = field(default_factory=dict)
    """Rows of each file in an epoch; empty when each is met once."""


def data_report(
    loaded: Loaded,
    split: Split,
    *,
    tokens: TokenFacts | None = None,
    changes: Mapping[str, str] | None = None,
    mix: Mix | None = None,
) -> DataReport:
    """Put together what loading, splitting and, with a model, encoding found."""
    formats: Counter[str] = Counter()
    for file in loaded.files:
        formats.update(file.formats)
    return DataReport(
        examples=len(loaded.train) + (0 if loaded.validation is None else len(loaded.validation)),
        train=len(split.train),
        validation=len(split.validation),
        validation_reason=split.reason,
        duplicates=split.duplicates,
        overlap=split.overlap,
        dropped_count=loaded.dropped_count,
        dropped=tuple(loaded.dropped),
        dropped_reasons=loaded.reasons,
        formats=dict(formats.most_common()),
        files=loaded.files,
        warnings=loaded.warnings,
        notices=loaded.notices,
        tokens=tokens,
        changes=changes or {},
        epoch=dict(zip(mix.names, mix.counts, strict=True)) if mix else {},
    )


def as_json(report: DataReport) -> str:
    """The report as one JSON object."""
    found = {**asdict(report), "dropped": [_place(dropped) for dropped in report.dropped]}
    # A file name that is no text becomes an escape, which is how JSON writes it.
    return json.dumps(found, ensure_ascii=False, indent=2).encode(errors="backslashreplace").decode()


def _place(dropped: Dropped) -> dict[str, str | int]:
    origin = dropped.origin
    number = {"line": origin.line} if origin.line else {"record": origin.record} if origin.record else {}
    return {"file": origin.file, **number, "reason": dropped.reason}


def render(report: DataReport) -> list[RenderableType]:
    """The report for a terminal, part by part, to be printed one below the other."""
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = [_files(report), Text()]
    parts += [_facts(_rows(report)), Text()]
    if report.dropped:
        parts += [Text("Left out", style="bold"), Padding(_facts(_reasons(report)), (0, 0, 0, 2)), Text()]
    if report.tokens:
        parts += [_facts(_tokens(report.tokens)), Text()]
    parts += [Text(f"Note: {notice}", style="dim") for notice in report.notices]
    parts += [Text(f"Warning: {warning}", style="yellow") for warning in report.warnings]
    return parts


def render_fixed(fixed: Fixed) -> list[RenderableType]:
    """What a cleaned copy holds, for a terminal."""
    from rich.text import Text

    counts = f"{fixed.written:,} written, {fixed.changed_count:,} changed, {fixed.left_out_count:,} left out"
    return [
        Text(f"{fixed.out}: {counts}"),
        Text(f"Every change and everything left out: {fixed.list_file}", style="dim"),
    ]


def _files(report: DataReport) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("File", overflow="fold")
    table.add_column("Format")
    for name in ("Records", "Examples", "Left out"):
        table.add_column(name, justify="right")
    for file in report.files:
        counts = (file.records, file.examples, file.dropped)
        table.add_row(Text(file.name), Text(", ".join(file.formats) or "-"), *(f"{count:,}" for count in counts))
    return table


def _facts(pairs: Iterator[tuple[str, str]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 3))
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, fact in pairs:
        grid.add_row(Text(name), Text(fact))
    return grid


def _rows(report: DataReport) -> Iterator[tuple[str, str]]:
    yield "Examples", f"{report.examples:,}"
    duplicates = f" without {report.duplicates:,} that are exact copies" if report.duplicates else ""
    yield "Training", f"{report.train:,}{duplicates}"
    held_out = f"{report.validation:,}: " if report.validation else ""
    yield "Validation", held_out + report.validation_reason
    yield from ((name.capitalize(), change) for name, change in report.changes.items())


def _reasons(report: DataReport) -> Iterator[tuple[str, str]]:
    places: dict[str, list[str]] = {}
    for dropped in report.dropped:
        places.setdefault(dropped.reason, []).append(str(dropped.origin))
    for reason, count in list(report.dropped_reasons.items())[:_REASONS_SHOWN]:
        known = places.get(reason, [])[:_PLACES_SHOWN]
        more = ", ..." if known and count > len(known) else ""
        yield f"{count:,}", f"{reason}: {', '.join(known)}{more}" if known else reason
    rest = list(report.dropped_reasons.values())[_REASONS_SHOWN:]
    if rest:
        yield f"{sum(rest):,}", "for other reasons; see them all with --json"


def _tokens(facts: TokenFacts) -> Iterator[tuple[str, str]]:
    yield "Tokens a row", ", ".join(f"{name} {length:,}" for name, length in facts.quantiles.items())
    yield "Learned", f"{facts.supervised_share:.0%} of all tokens"
    yield "Too long", f"{facts.truncated_share:.1%} of the rows have more than {facts.max_seq_length:,} tokens"
    if facts.longest:
        yield "Longest", ", ".join(f"{place} ({length:,})" for place, length in facts.longest)
