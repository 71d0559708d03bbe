"""The story of inspecting a dataset without training: what was found, used and skipped, and how long its rows are.

Run as: llm-installer data my.json --model tiny
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llm_installer.core.arrays import Numbers
from llm_installer.core.errors import UsageError
from llm_installer.core.examples import Dropped
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import counted
from llm_installer.data.mixing import Mix
from llm_installer.data.overview import DataOverview, TokenFacts, make_overview
from llm_installer.data.prepare import Given, Prepared, read, room
from llm_installer.planning.cuts import too_much
from llm_installer.planning.options import Options
from llm_installer.planning.registry import find_handler

if TYPE_CHECKING:
    from llm_installer.core.handler import Handler
    from llm_installer.core.model_info import ModelInfo
    from llm_installer.data.preview import Preview

QUANTILES = {"median": 0.5, "90%": 0.9, "99%": 0.99, "longest": 1.0}
LONGEST_SHOWN = 5
LISTED = 1000
"""Rows that are listed one by one."""
BARS = 12
"""Of a histogram."""


@dataclass(frozen=True)
class Inspection:
    """What inspecting found."""

    overview: DataOverview
    preview: Preview | None = None
    """The first rows as they are trained on, where they are asked for and it is known by which model."""


def inspect_data(options: Options, base: Path) -> Inspection:
    """Read and split the data as training would; with a model, encode it too, and show the first `options.show` rows.

    Raises DataError and UsageError where training could not start.
    """
    if options.max_seq_length and not options.model_path:
        raise UsageError("--max-seq-length counts tokens; say whose, for example: --model tiny")
    given = read(options, base)
    tokens, preview = _encoded(given, options) if options.model_path else (None, None)
    return Inspection(overview_of(given, options, tokens), preview)


def overview_of(given: Given, options: Options, tokens: TokenFacts | None) -> DataOverview:
    """The overview of what was read."""
    mix = given.mix(np.arange(len(given.train))) if given.weights else None
    return make_overview(given.loaded, given.split, tokens=tokens, changes=_changes(given, options, mix), mix=mix)


def _changes(given: Given, options: Options, mix: Mix | None) -> dict[str, str]:
    """What the options make of the examples, in words."""
    changes = dict(given.changes)
    if options.max_examples is not None:
        sampled = len(given.split.train) + (len(given.split.validation) if given.loaded.validation is None else 0)
        most = f"at most {options.max_examples:,} asked for, chosen with seed {options.seed}"
        changes["sample"] = f"{counted(sampled, 'example')}, {most}"
    if mix:
        rows = ", ".join(f"{count:,} from {name}" for name, count in zip(mix.names, mix.counts, strict=True))
        changes["mix"] = f"{mix}; an epoch takes {rows}"
    return changes


def _encoded(given: Given, options: Options) -> tuple[TokenFacts, Preview | None]:
    from llm_installer.data.encoding.processor import load_encoder
    from llm_installer.data.prepare import prepare
    from llm_installer.data.preview import first_rows

    folder = ModelDir.find(options.model_path or "")
    info = read_model_info(folder.weights, folder.root.name)
    encoder = load_encoder(info, options.train_on_prompt)
    handler = find_handler(info)
    prepared = prepare(given, encoder, options, info, handler)
    shown = first_rows(given, encoder, prepared.length[0], options.show) if options.show else None
    return token_facts(given, prepared, options, info, handler), shown


def token_facts(given: Given, prepared: Prepared, options: Options, info: ModelInfo, handler: Handler) -> TokenFacts:
    """How long the rows are, how much of them is supervised, and what is lost."""
    rows, limit = prepared.uncut, prepared.length[0]
    lengths = rows.lengths
    longest = np.argsort(-lengths, kind="stable")[:LONGEST_SHOWN]
    return TokenFacts(
        quantiles={name: int(np.quantile(lengths, q, method="higher")) for name, q in QUANTILES.items()},
        supervised_share=int(rows.counts.sum()) / int(lengths.sum()),
        truncated_share=float((lengths > limit).mean()),
        max_seq_length=limit,
        rows=len(rows),
        split=prepared.sides[0].pieces,
        longest=tuple((str(given.train[rows.source[i]].origin), int(lengths[i])) for i in longest),
        cut=prepared.cut,
        refusal=too_much(prepared.cut, options, room(limit, info, handler)),
        not_learned=dict(Counter(record.reason for record in prepared.dropped).most_common()),
        skipped=prepared.dropped[:LISTED],
        cut_rows=tuple(Dropped(row.origin, row.loses, partly=True) for row in islice(prepared.cut_rows, LISTED)),
        histogram=_histogram(lengths),
    )


def _histogram(lengths: Numbers) -> tuple[tuple[int, int], ...]:
    """Rows by length, in bars of one width that is a round number."""
    wanted = max(1, int(lengths.max()) / BARS)
    unit = 10 ** int(np.log10(wanted))
    width = next(int(unit * step) for step in (1, 2, 2.5, 5, 10) if unit * step >= wanted and (unit * step) % 1 == 0)
    counts = np.bincount((lengths - 1) // width)
    return tuple(((bar + 1) * width, int(count)) for bar, count in enumerate(counts))
