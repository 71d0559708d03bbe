"""From what the user gave to encoded rows: load, split, encode, choose the length, cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example
from llm_installer.core.handler import Handler
from llm_installer.core.model_info import ModelInfo
from llm_installer.data.encode import Encoder, Row, cut, encode_all, lost_shares
from llm_installer.data.load import Loaded, load_examples
from llm_installer.data.splitting import Split, split
from llm_installer.planning.options import Options
from llm_installer.planning.plan import DataFacts, choose_length

VALIDATION_SPLIT = 0.1
"""Share of the prompts held out when the user names none (the guide's)."""
NOTHING_LEARNED = "nothing of the answer fits into the longest row"


@dataclass(frozen=True)
class Given:
    """What the user gave, read and split, before any token."""

    loaded: Loaded
    split: Split
    train: Sequence[Example]
    validation: Sequence[Example]


@dataclass(frozen=True)
class Prepared:
    """Rows ready to train on, and what the plan needs to know of them."""

    train: list[Row]
    validation: list[Row]
    facts: DataFacts
    length: tuple[int, str]
    """The longest row in tokens, and why."""
    whole: list[Row]
    """The training rows before they were cut."""
    dropped: tuple[Dropped, ...]
    """Examples that the template refused or of which nothing was left to learn."""


def read(options: Options, base: Path) -> Given:
    """Find, read and split the data. Raises DataError when there is none; relative paths are below `base`."""
    if not options.data:
        raise DataError("Say what to learn from, for example: --data my.json")
    loaded = load_examples(
        options.data,
        base=base,
        dataset_format=options.dataset_format,
        columns=options.columns,
        validation_data=options.validation_data,
        strict=options.strict,
    )
    parts = split(
        loaded.train.prompt_keys(),
        loaded.train.row_keys(),
        validation_split=VALIDATION_SPLIT if options.validation_split is None else options.validation_split,
        seed=options.seed,
        max_examples=options.max_examples,
        given_validation_keys=None if loaded.validation is None else loaded.validation.prompt_keys(),
        keep_duplicates=loaded.train.plain_texts(),
    )
    held_out = loaded.train if loaded.validation is None else loaded.validation
    return Given(loaded, parts, loaded.train.select(parts.train), held_out.select(parts.validation))


def prepare(given: Given, encoder: Encoder, options: Options, info: ModelInfo, handler: Handler) -> Prepared:
    """Encode both sides and cut them to one length. Raises DataError when nothing is left to learn."""
    train, refused = encode_all(given.train, encoder)
    held_out, refused_too = encode_all(given.validation, encoder)
    length = choose_length(options, info, handler, lost_shares(train))
    rows, kept_out = cut(train, length[0]), cut(held_out, length[0])
    lost = {r.source for r in train} - {r.source for r in rows}
    dropped = [*refused, *refused_too, *(Dropped(given.train[i].origin, NOTHING_LEARNED) for i in sorted(lost))]
    if not rows:
        raise DataError(f"Nothing can be learned from this data: {dropped[0].origin}: {dropped[0].reason}")
    lengths = np.array([len(r.ids) for r in rows])
    tasks = Counter(
        given.train[i].task for i in {rows[j].source for j in range(0, len(rows), max(1, len(rows) // 1000))}
    )
    facts = DataFacts(
        rows=len(rows),
        validation_rows=len(kept_out),
        task=tasks.most_common(1)[0][0],
        mean_length=float(lengths.mean()),
        longest=int(lengths.max()),
        validation_note=given.split.reason,
    )
    return Prepared(rows, kept_out, facts, length, train, tuple(dropped))
