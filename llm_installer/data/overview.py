"""What there is to say about a dataset, as facts: what was found, used and skipped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_installer.core.examples import Dropped
from llm_installer.data.cut_rows import NO_PIECES, TextPieces
from llm_installer.data.mixing import Mix
from llm_installer.data.splitting import Split
from llm_installer.data.store.conversion import FileSummary
from llm_installer.data.store.load import Loaded
from llm_installer.planning.cuts import NOTHING_CUT, CutFacts


@dataclass(frozen=True)
class TokenFacts:
    """What the tokenizer of a model adds: how long the rows are, and how much of them is supervised."""

    quantiles: Mapping[str, int]
    """Length in tokens by name, shortest first, as in {"median": 120, "95%": 610, "longest": 2040}."""
    supervised_share: float
    """Share of all tokens, 0 to 1, that count in the loss."""
    truncated_share: float
    """Share of the rows, 0 to 1, that are longer than `max_seq_length`, plain texts among them."""
    max_seq_length: int
    """In tokens."""
    longest: tuple[tuple[str, int], ...]
    """The longest rows: origin (file:line) and length in tokens."""
    rows: int = 0
    """All of them, before plain texts are cut into pieces."""
    split: TextPieces = NO_PIECES
    """Plain texts among the rows that are longer: training cuts them into pieces and loses nothing."""
    cut: CutFacts = NOTHING_CUT
    """What rows lose that are longer than `max_seq_length`."""
    refusal: str = ""
    """Why training would stop over what is lost; empty where it would not."""
    not_learned: Mapping[str, int] = field(default_factory=dict)
    """Examples that are skipped when they are encoded, or learned only in part, by reason."""
    skipped: tuple[Dropped, ...] = ()
    """The first thousand of them."""
    cut_rows: tuple[Dropped, ...] = ()
    """The first thousand rows that are cut, and what each of them loses."""
    histogram: tuple[tuple[int, int], ...] = ()
    """(length in tokens, rows of at most that length, and longer than the one before)."""


@dataclass(frozen=True)
class DataOverview:
    """Everything there is to say about a dataset. `data --json` prints these names."""

    examples: int
    """Accepted records, before splitting, removing duplicates or truncating."""
    train: int
    validation: int
    validation_reason: str
    duplicates: int
    overlap: int
    """Rows of a given validation file that are skipped because their prompt is trained on."""
    dropped_count: int
    """Records that are skipped."""
    dropped: tuple[Dropped, ...]
    """The first thousand of them."""
    dropped_reasons: Mapping[str, int]
    """How many are skipped, by reason, the most frequent first."""
    formats: Mapping[str, int]
    """Records by format."""
    files: tuple[FileSummary, ...]
    warnings: tuple[str, ...]
    notices: tuple[str, ...]
    tokens: TokenFacts | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    """What options make of the examples, in words: pieces, prefixes, sample, mix."""
    epoch: Mapping[str, int] = field(default_factory=dict)
    """Rows of each file in an epoch; empty when every row is used once."""


def make_overview(
    loaded: Loaded,
    split: Split,
    *,
    tokens: TokenFacts | None = None,
    changes: Mapping[str, str] | None = None,
    mix: Mix | None = None,
) -> DataOverview:
    """Put together what loading, splitting and, with a model, encoding found."""
    formats: Counter[str] = Counter()
    for file in loaded.files:
        formats.update(file.formats)
    return DataOverview(
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
        warnings=(*loaded.warnings, *([f"training would stop: {tokens.refusal}"] if tokens and tokens.refusal else [])),
        notices=loaded.notices,
        tokens=tokens,
        changes=changes or {},
        epoch=dict(zip(mix.names, mix.counts, strict=True)) if mix else {},
    )
