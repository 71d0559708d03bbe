"""From what the user gave to encoded rows: load, split, encode, choose the sequence length, truncate."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from llm_installer.core.arrays import Indices
from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.examples import Dropped, Example
from llm_installer.core.handler import Handler
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.text import counted, visible
from llm_installer.core.voice import Progress
from llm_installer.data.cut_rows import CutRow, Side, cut_facts, refuse_cut
from llm_installer.data.encoding.adapting import with_thought
from llm_installer.data.encoding.cutting import cut, cut_shares
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_cache import encode
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.image_rows import shares_with_images, without_long_images
from llm_installer.data.mixing import Mix, make_mix, named_files, parse_weights
from llm_installer.data.splitting import Split, split
from llm_installer.data.store.gather import refused
from llm_installer.data.store.load import DataRequest, Loaded, load_examples
from llm_installer.data.store.views import Pieces, Prefixed, file_codes
from llm_installer.planning.chooser import DataFacts, choose_length, most_tokens
from llm_installer.planning.cuts import CutFacts, Room
from llm_installer.planning.duration import choose_mode
from llm_installer.planning.options import Options
from llm_installer.planning.pairs import parse_pairs

VALIDATION_SPLIT = 0.1
"""Share of the rows for validation when the user names none (the guide's)."""


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
    sides: tuple[Side, ...] = ()
    """The rows of training and of validation before they were truncated."""

    @property
    def cut(self) -> CutFacts:
        """What the rows lose that were truncated."""
        return self.facts.cut

    @property
    def cut_rows(self) -> Iterator[CutRow]:
        """What each of them loses."""
        return chain.from_iterable(self.sides)


def request(options: Options, base: Path) -> DataRequest:
    """What of the options says what to read and how. Raises DataError when there is nothing to read."""
    data = options.sources
    if not data:
        raise DataError("Say what to train on, for example: --data my.json")
    return DataRequest(
        data,
        base=base,
        dataset_format=options.dataset_format,
        columns=options.columns,
        answers_as=options.answers_as,
        validation_data=options.validation_data,
        strict=options.strict,
        text_rows=options.text_rows,
    )


def read(options: Options, base: Path) -> Given:
    """Find, read and split the data; relative paths are below `base`.

    Raises DataError when there is none, and UsageError for options that do not suit the data.
    """
    loaded = load_examples(request(options, base))
    share, why_none = _validation_split(options)
    parts = split(
        loaded.train.prompt_keys(),
        loaded.train.row_keys(),
        validation_split=share,
        seed=options.seed,
        max_examples=options.max_examples,
        given_validation_keys=None if loaded.validation is None else loaded.validation.prompt_keys(),
    )
    if why_none and loaded.validation is None:
        parts = replace(parts, reason=f"no validation: {why_none}")
    source = loaded.train if loaded.validation is None else loaded.validation
    files = [f.name for f in loaded.files]
    weights = parse_weights(named_files(parse_pairs(options.mix or "", "--mix"), files, base, "--mix"))
    tasks = named_files(parse_pairs(options.task_prefix or "", "--task-prefix"), files, base, "--task-prefix")
    sides = (loaded.train.select(parts.train), source.select(parts.validation))
    (train, validation), changes = _changed(sides, tasks, options.chunk_words)
    return Given(loaded, parts, train, validation, weights, changes)


def _validation_split(options: Options) -> tuple[float, str]:
    """The share of the rows for validation, and why there are none where it is 0."""
    mode = choose_mode(options)
    if options.validation_split is None and mode.memorises:
        return 0.0, f"mode {mode.name} trains on every row, since all are to be memorised"
    return VALIDATION_SPLIT if options.validation_split is None else options.validation_split, ""


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
    """Encode both sides and truncate them to one length.

    Raises DataError when nothing is left to train on, and with --strict when a record is skipped or a row is cut.
    """
    train, not_rendered = encode(given.train, encoder, progress)
    validation, not_rendered_too = encode(given.validation, encoder, progress)
    length = choose_length(options, info, handler, shares_with_images(train, cut_shares(train)))
    train, too_long = without_long_images(train, given.train, length[0])
    validation, too_long_too = without_long_images(validation, given.validation, length[0])
    sides = (Side(given.train, train, length[0]), Side(given.validation, validation, length[0]))
    rows, validation = cut(train, length[0]), cut(validation, length[0])
    dropped = [*not_rendered, *not_rendered_too, *too_long, *too_long_too, *(d for side in sides for d in side.dropped)]
    if not len(rows):
        first = next(d for d in dropped if not d.partly)
        raise DataError(f"Nothing in this data can be trained on: {first.origin}: {first.reason}")
    if options.strict:
        if dropped:
            raise refused(dropped[0])
        refuse_cut(sides, room(length[0], info, handler))
    encoder.template.thinks = _thinks(given, rows)
    mix = given.mix(rows.source) if given.weights else None
    facts = _facts(given, rows, len(validation), mix, cut_facts(sides))
    return Prepared(rows, validation, facts, length, train, tuple(dropped), mix, sides)


def room(limit: int, info: ModelInfo, handler: Handler) -> Room:
    """The chosen sequence length beside what the model can read."""
    return Room(limit, most_tokens(info, handler), info.name)


def _some_sources(rows: EncodedSet) -> Indices:
    """The examples of about a thousand of the rows."""
    found: Indices = np.unique(rows.source[:: max(1, len(rows) // 1000)])
    return found


def _thinks(given: Given, rows: EncodedSet) -> bool:
    """Whether most answers begin with a thought."""
    seen = _some_sources(rows)
    return 2 * sum(with_thought(given.train[i]) for i in seen) > len(seen)


def _facts(given: Given, rows: EncodedSet, validation_rows: int, mix: Mix | None, cut: CutFacts) -> DataFacts:
    tasks = Counter(given.train[i].task for i in _some_sources(rows))
    return DataFacts(
        rows=mix.size if mix else len(rows),
        validation_rows=validation_rows,
        task=tasks.most_common(1)[0][0],
        mean_length=float(rows.lengths.mean()),
        longest=int(rows.lengths.max()),
        answer_tokens=float(rows.counts.mean()) * (mix.size if mix else len(rows)),
        validation_note=given.split.reason,
        mix=tuple(zip(mix.names, mix.shares, strict=True)) if mix else (),
        cut=cut,
    )


def write_dropped(file: Path, given: Given, prepared: Prepared) -> None:
    """Write every record that is skipped or cut, and why, as JSON lines; no file when there is none."""
    if given.loaded.dropped_count:
        shutil.copyfile(given.loaded.dropped_file, file)
    if prepared.dropped or prepared.cut.rows:
        skipped = (asdict(d.origin) | {"reason": d.reason, "partly": d.partly} for d in prepared.dropped)
        cut_rows = ({**asdict(row.origin), "reason": row.loses, "partly": True} for row in prepared.cut_rows)
        with file.open("a", encoding="utf-8") as lines:
            lines.writelines(visible(json.dumps(line, ensure_ascii=False)) + "\n" for line in chain(skipped, cut_rows))
