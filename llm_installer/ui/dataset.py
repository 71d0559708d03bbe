"""What `llm-installer data` shows on a terminal: an overview of a dataset, and what --fix wrote."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from llm_installer.core.text import counted, short_path
from llm_installer.data.fix import Fixed
from llm_installer.data.overview import DataOverview, TokenFacts
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import Columns, facts

REASONS_SHOWN = 8
ORIGINS_SHOWN = 3


@drawing.register
def overview_parts(overview: DataOverview) -> list[RenderableType]:
    """An overview, part by part, to be printed one below the other."""
    parts: list[RenderableType] = [_files(overview), Text(), facts(*_rows(overview))]
    if overview.dropped:
        reasons = Columns(list(_reasons(overview)), right=frozenset({0}))
        parts += [Text(), Text("Skipped", style="bold"), reasons]
    if overview.tokens:
        parts += [Text(), facts(*_tokens(overview.tokens))]
    parts += [Text()] if overview.notices or overview.warnings else []
    parts += [Text(f"Note: {notice}", style="dim") for notice in overview.notices]
    parts += [Text(f"Warning: {warning}", style="yellow") for warning in overview.warnings]
    return parts


@drawing.register
def fixed_parts(fixed: Fixed) -> list[RenderableType]:
    """What the cleaned copy holds."""
    counts = f"{fixed.written:,} written, {fixed.changed_count:,} changed, {fixed.skipped_count:,} skipped"
    return [
        Text(f"{short_path(fixed.out)}: {counts}"),
        Text(f"Every change and every skipped record: {short_path(fixed.list_file)}", style="dim"),
    ]


def _files(overview: DataOverview) -> Columns:
    rows = [
        (file.name, ", ".join(file.formats) or "-", f"{file.records:,}", f"{file.examples:,}", f"{file.dropped:,}")
        for file in overview.files
    ]
    return Columns(rows, head=("file", "format", "records", "examples", "skipped"), right=frozenset({2, 3, 4}), below=0)


def _rows(overview: DataOverview) -> Iterator[tuple[str, str]]:
    yield "examples", f"{overview.examples:,}"
    copies = f", without {counted(overview.duplicates, 'exact copy', 'exact copies')}" if overview.duplicates else ""
    yield "training", f"{overview.train:,}{copies}"
    count, reason = f"{overview.validation:,}", overview.validation_reason
    said = not overview.validation or reason.startswith(f"{count} ")
    yield "validation", reason if said else f"{count}: {reason}"
    yield from overview.changes.items()


def _reasons(overview: DataOverview) -> Iterator[tuple[str, str]]:
    origins: dict[str, list[str]] = {}
    for dropped in overview.dropped:
        origins.setdefault(dropped.reason, []).append(str(dropped.origin))
    for reason, count in list(overview.dropped_reasons.items())[:REASONS_SHOWN]:
        known = origins.get(reason, [])[:ORIGINS_SHOWN]
        more = ", ..." if known and count > len(known) else ""
        yield f"{count:,}", f"{reason}: {', '.join(known)}{more}" if known else reason
    rest = list(overview.dropped_reasons.values())[REASONS_SHOWN:]
    if rest:
        yield f"{sum(rest):,}", "for other reasons; see them all with --json"


def _tokens(facts: TokenFacts) -> Iterator[tuple[str, str]]:
    yield "tokens per row", ", ".join(f"{name} {length:,}" for name, length in facts.quantiles.items())
    yield "supervised", f"{facts.supervised_share:.0%} of all tokens"
    yield from _too_long(facts)
    if facts.cut.rows:
        yield "cut rows", f"{facts.cut.value}: {facts.cut.why}"
    for reason, count in facts.not_learned.items():
        yield "not learned", f"{counted(count, 'example')}, in whole or in part: {reason}"
    if facts.longest:
        yield "longest", ", ".join(f"{origin} ({length:,})" for origin, length in facts.longest)


def _too_long(facts: TokenFacts) -> Iterator[tuple[str, str]]:
    """Rows that would lose something, then texts, which lose nothing."""
    texts, length = facts.split.texts, f"more than {facts.max_seq_length:,} tokens"
    if not texts:
        yield "too long", f"{facts.truncated_share:.1%} of the rows have {length}"
        return
    others = round(facts.truncated_share * facts.rows) - texts
    if others:
        yield "too long", f"{others:,} of {counted(facts.rows, 'row')} have {length}, texts not counted"
    pieces = f"into {counted(facts.split.pieces, 'piece')}, and nothing is lost"
    yield "long texts", f"{counted(texts, 'text')} of {length}: training cuts {'it' if texts == 1 else 'them'} {pieces}"
