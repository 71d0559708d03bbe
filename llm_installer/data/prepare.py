"""From what the user gave to encoded rows: load, split, encode, choose the length, cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped
from llm_installer.core.handler import Handler
from llm_installer.core.model_info import ModelInfo
from llm_installer.data.cutting import cut, lost_shares
from llm_installer.data.encode import Encoder
from llm_installer.data.encode_cache import encode
from llm_installer.data.encode_work import Progress
from llm_installer.data.encoded import EncodedSet
from llm_installer.data.load import Loaded, load_examples
from llm_installer.data.splitting import Split, split
from llm_installer.data.store import ExampleView
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
    train: ExampleView
    validation: ExampleView


@dataclass(frozen=True)
class Prepared:
    """Rows ready to train on, and what the plan needs to know of them."""

    train: EncodedSet
    validation: EncodedSet
    facts: DataFacts
    length: tuple[int, str]
    """The longest row in tokens, and why."""
    dropped: tuple[Dropped, ...]
    """Examples that the template refused or of which nothing was left to learn."""
    uncut: EncodedSet
    """The training rows as they were before they were cut."""


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
        keep_duplicates=loaded.train[0].kind == "text",
    )
    held_out = loaded.train if loaded.validation is None else loaded.validation
    return Given(loaded, parts, loaded.train.select(parts.train), held_out.select(parts.validation))


def prepare(
    given: Given,
    encoder: Encoder,
    options: Options,
    info: ModelInfo,
    handler: Handler,
    progress: Progress = lambda done, total: None,
) -> Prepared:
    """Encode both sides and cut them to one length. Raises DataError when nothing is left to learn."""
    train, refused = encode(given.train, encoder, progress)
    held_out, refused_too = encode(given.validation, encoder, progress)
    length = choose_length(options, info, handler, lost_shares(train))
    rows, kept_out = cut(train, length[0]), cut(held_out, length[0])
    lost = np.setdiff1d(train.source, rows.source)
    dropped = [*refused, *refused_too, *(Dropped(given.train[i].origin, NOTHING_LEARNED) for i in lost)]
    if not len(rows):
        raise DataError(f"Nothing can be learned from this data: {dropped[0].origin}: {dropped[0].reason}")
    seen = np.unique(rows.source[:: max(1, len(rows) // 1000)])
    tasks = Counter(given.train[i].task for i in seen)
    facts = DataFacts(
        rows=len(rows),
        validation_rows=len(kept_out),
        task=tasks.most_common(1)[0][0],
        mean_length=float(rows.lengths.mean()),
        longest=int(rows.lengths.max()),
        validation_note=given.split.reason,
    )
    return Prepared(rows, kept_out, facts, length, tuple(dropped), train)
