"""From what the user gave to encoded rows: load, split, encode, choose the sequence length, truncate."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from llm_installer.core.arrays import Indices
from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.examples import Dropped, Example
from llm_installer.core.handler import Handler
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.text import counted, visible
from llm_installer.core.voice import Progress
from llm_installer.data.encoding.adapting import with_thought
from llm_installer.data.encoding.cutting import cut, cut_shares
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_cache import encode
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.image_rows import shares_with_images, without_long_images
from llm_installer.data.mixing import Mix, make_mix, named_files, parse_weights
from llm_installer.data.splitting import Split, split
from llm_installer.data.store.load import DataRequest, Loaded, load_examples
from llm_installer.data.store.views import Pieces, Prefixed, file_codes
from llm_installer.planning.chooser import DataFacts, choose_length
from llm_installer.planning.options import Options
from llm_installer.planning.pairs import parse_pairs

VALIDATION_SPLIT = 0.1
"""Share of the rows for validation when the user names none (the guide's)."""
ANSWER_LOST = "nothing of its answer fits into the sequence length"


@dataclass(frozen=True)
class Given:
    """What the user gave, read and split, but not encoded."""

    loaded: Loaded
    split: Split
    train: Sequence[Example]
    validation: Sequence[Example]
    weights: dict[str, float] = field(default_factory=dict)
    """Weight of each named file in the training rows; empty when every row is used once per epoch."""
    changes: tuple[tuple[str, str], ...] = ()
    """(name, in words) of what the user asked to be done to the texts."""

    def mix(self, rows: Indices) -> Mix:
        """How often the rows of each file are used; `rows` are the indices of their examples. Raises DataError."""
        files, codes = file_codes(self.train)
        return make_mix(self.weights, files, codes[rows])


@dataclass(frozen=True)
class Prepared:
    """Rows ready to train on, and what the plan needs to know of them."""

    train: EncodedSet
    validation: EncodedSet
    facts: DataFacts
    length: tuple[int, str]
    """The sequence length in tokens, and why."""
    uncut: EncodedSet
    """The training rows before they were truncated."""
    dropped: tuple[Dropped, ...]
    """Examples that are skipped, or of which a part is: refused by the template, or with nothing left to train on."""
    mix: Mix | None = None
    """Which rows an epoch takes, where it does not take each once."""


def read(options: Options, base: Path) -> Given:
    """Find, read and split the data; relative paths are below `base`.

    Raises DataError when there is none, and UsageError for options that do not suit the data.
    """
    data = options.sources
    if not data:
        raise DataError("Say what to train on, for example: --data my.json")
    loaded = load_examples(
        DataRequest(
            data,
            base=base,
            dataset_format=options.dataset_format,
            columns=options.columns,
            answers_as=options.answers_as,
            validation_data=options.validation_data,
            strict=options.strict,
        )
    )
    parts = split(
        loaded.train.prompt_keys(),
        loaded.train.row_keys(),
        validation_split=VALIDATION_SPLIT if options.validation_split is None else options.validation_split,
        seed=options.seed,
        max_examples=options.max_examples,
        given_validation_keys=None if loaded.validation is None else loaded.validation.prompt_keys(),
    )
    source = loaded.train if loaded.validation is None else loaded.validation
    files = [f.name for f in loaded.files]
    weights = parse_weights(named_files(parse_pairs(options.mix or "", "--mix"), files, base, "--mix"))
    tasks = named_files(parse_pairs(options.task_prefix or "", "--task-prefix"), files, base, "--task-prefix")
    sides = (loaded.train.select(parts.train), source.select(parts.validation))
    (train, validation), changes = _changed(sides, tasks, options.chunk_words)
    return Given(loaded, parts, train, validation, weights, changes)


def _changed(
    sides: tuple[Sequence[Example], Sequence[Example]], tasks: dict[str, str], chunk_words: int | None
) -> tuple[tuple[Sequence[Example], Sequence[Example]], tuple[tuple[str, str], ...]]:
    """Both sides of the split with texts split and prompts prefixed as asked, and what was done.

    Raises UsageError when there is no text to split.
    """
    train, validation = sides
    changes: list[tuple[str, str]] = []
    if chunk_words:
        pieces, validation = Pieces(train, chunk_words), Pieces(validation, chunk_words)
        if not pieces.texts:
            raise UsageError("--chunk-words splits plain text, and there is none in this data; remove the option")
        rows = len(pieces) - len(train) + pieces.texts
        each = f"at most {counted(chunk_words, 'word')}"
        changes.append(("pieces", f"{counted(pieces.texts, 'plain text')} in {counted(rows, 'row')} of {each}"))
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
    """Encode both sides and truncate them to one length. Raises DataError when nothing is left to train on."""
    train, refused = encode(given.train, encoder, progress)
    validation, refused_too = encode(given.validation, encoder, progress)
    length = choose_length(options, info, handler, shares_with_images(train, cut_shares(train)))
    train, too_long = without_long_images(train, given.train, length[0])
    validation, too_long_too = without_long_images(validation, given.validation, length[0])
    rows, validation = cut(train, length[0]), cut(validation, length[0])
    lost = np.setdiff1d(train.source, rows.source)
    dropped = [*refused, *refused_too, *too_long, *too_long_too]
    dropped += [Dropped(given.train[i].origin, ANSWER_LOST) for i in lost]
    if not len(rows):
        first = next(d for d in dropped if not d.partly)
        raise DataError(f"Nothing in this data can be trained on: {first.origin}: {first.reason}")
    seen = np.unique(rows.source[:: max(1, len(rows) // 1000)])
    tasks = Counter(given.train[i].task for i in seen)
    encoder.template.thinks = 2 * sum(with_thought(given.train[i]) for i in seen) > len(seen)
    mix = given.mix(rows.source) if given.weights else None
    facts = DataFacts(
        rows=mix.size if mix else len(rows),
        validation_rows=len(validation),
        task=tasks.most_common(1)[0][0],
        mean_length=float(rows.lengths.mean()),
        longest=int(rows.lengths.max()),
        validation_note=given.split.reason,
        mix=tuple(zip(mix.names, mix.shares, strict=True)) if mix else (),
    )
    return Prepared(rows, validation, facts, length, train, tuple(dropped), mix)


def write_dropped(file: Path, given: Given, prepared: Prepared) -> None:
    """Write every record that is skipped, and why, as JSON lines; no file when there is none."""
    if given.loaded.dropped_count:
        shutil.copyfile(given.loaded.dropped_file, file)
    if prepared.dropped:
        with file.open("a", encoding="utf-8") as lines:
            lines.writelines(
                visible(json.dumps(asdict(d.origin) | {"reason": d.reason, "partly": d.partly}, ensure_ascii=False))
                + "\n"
                for d in prepared.dropped
            )
