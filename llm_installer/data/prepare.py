"""From what the user gave to encoded rows: load, split, encode, choose the length, cut."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.examples import Dropped, Example
from llm_installer.core.handler import Handler
from llm_installer.core.model_info import ModelInfo
from llm_installer.data.encoding.cutting import cut, cut_shares
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_cache import encode
from llm_installer.data.encoding.encode_work import Progress
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.pictured import fitting, shares_with_images
from llm_installer.data.mixing import Mix, make_mix, named_files, parse_weights
from llm_installer.data.splitting import Indices, Split, split
from llm_installer.data.store.load import Loaded, load_examples
from llm_installer.data.store.views import Pieces, Prefixed, file_codes
from llm_installer.planning.chooser import DataFacts, choose_length
from llm_installer.planning.options import Options
from llm_installer.planning.pairs import parse_pairs

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
    weights: dict[str, float] = field(default_factory=dict)
    """Weights of files in the training rows; empty when every row is met once an epoch."""
    changes: tuple[tuple[str, str], ...] = ()
    """(option, in words) for what the user had done to the texts."""

    def mix(self, rows: Indices) -> Mix:
        """How often the rows of each file are met, where these examples are the rows. Raises DataError."""
        files, codes = file_codes(self.train)
        return make_mix(self.weights, files, codes[rows])


@dataclass(frozen=True)
class Prepared:
    """Rows ready to train on, and what the plan needs to know of them."""

    train: EncodedSet
    validation: EncodedSet
    facts: DataFacts
    length: tuple[int, str]
    """The longest row in tokens, and why."""
    uncut: EncodedSet
    """The training rows before they were cut."""
    dropped: tuple[Dropped, ...]
    """Examples that the template refused or of which nothing was left to learn."""
    mix: Mix | None = None
    """Which rows an epoch goes through, where it is not each once."""


def read(options: Options, base: Path) -> Given:
    """Find, read and split the data. Raises DataError when there is none; relative paths are below `base`."""
    data = options.sources
    if not data:
        raise DataError("Say what to learn from, for example: --data my.json")
    loaded = load_examples(
        data,
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
    )
    held_out = loaded.train if loaded.validation is None else loaded.validation
    files = [f.name for f in loaded.files]
    weights = parse_weights(named_files(parse_pairs(options.mix or "", "--mix"), files, base, "--mix"))
    tasks = named_files(parse_pairs(options.task_prefix or "", "--task-prefix"), files, base, "--task-prefix")
    sides = (loaded.train.select(parts.train), held_out.select(parts.validation))
    (train, validation), changes = _changed(sides, tasks, options.chunk_words)
    return Given(loaded, parts, train, validation, weights, changes)


def _changed(
    sides: tuple[Sequence[Example], Sequence[Example]], tasks: dict[str, str], chunk_words: int | None
) -> tuple[tuple[Sequence[Example], Sequence[Example]], tuple[tuple[str, str], ...]]:
    """Both sides of the split with texts cut and prompts marked as asked, and what was done.

    Raises UsageError when there is no text to cut.
    """
    train, validation = sides
    changes: list[tuple[str, str]] = []
    if chunk_words:
        pieces, validation = Pieces(train, chunk_words), Pieces(validation, chunk_words)
        if not pieces.texts:
            raise UsageError("--chunk-words cuts plain text, and there is none in these data; leave it out")
        rows = len(pieces) - len(train) + pieces.texts
        changes.append(("pieces", f"{pieces.texts:,} plain texts in {rows:,} rows of at most {chunk_words:,} words"))
        train = pieces
    if tasks:
        train, validation = Prefixed(train, tasks), Prefixed(validation, tasks)
        changes.append(("prefixes", ", ".join(f"{file} [{task}]" for file, task in tasks.items())))
    return (train, validation), tuple(changes)


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
    length = choose_length(options, info, handler, shares_with_images(train, cut_shares(train)))
    train, too_long = fitting(train, given.train, length[0])
    held_out, too_long_too = fitting(held_out, given.validation, length[0])
    rows, kept_out = cut(train, length[0]), cut(held_out, length[0])
    lost = np.setdiff1d(train.source, rows.source)
    dropped = [*refused, *refused_too, *too_long, *too_long_too]
    dropped += [Dropped(given.train[i].origin, NOTHING_LEARNED) for i in lost]
    if not len(rows):
        raise DataError(f"Nothing can be learned from this data: {dropped[0].origin}: {dropped[0].reason}")
    seen = np.unique(rows.source[:: max(1, len(rows) // 1000)])
    tasks = Counter(given.train[i].task for i in seen)
    mix = given.mix(rows.source) if given.weights else None
    facts = DataFacts(
        rows=mix.size if mix else len(rows),
        validation_rows=len(kept_out),
        task=tasks.most_common(1)[0][0],
        mean_length=float(rows.lengths.mean()),
        longest=int(rows.lengths.max()),
        validation_note=given.split.reason,
        mix=tuple(zip(mix.names, mix.shares, strict=True)) if mix else (),
    )
    return Prepared(rows, kept_out, facts, length, train, tuple(dropped), mix)


def write_dropped(file: Path, given: Given, prepared: Prepared) -> None:
    """Every record that is not trained on, and why, as JSON lines; no file when there is none."""
    if given.loaded.dropped_count:
        shutil.copyfile(given.loaded.dropped_file, file)
    if prepared.dropped:
        with file.open("a", encoding="utf-8") as lines:
            lines.writelines(
                json.dumps({**asdict(d.origin), "reason": d.reason}, ensure_ascii=False) + "\n"
                for d in prepared.dropped
            )
