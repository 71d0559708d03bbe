"""The story of --show: the first rows of the training data, token by token, exactly as training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.examples import Example, Origin
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Progress
from llm_installer.data.cut_rows import Side
from llm_installer.data.encoding.cutting import cut, cut_shares
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_cache import encode
from llm_installer.data.encoding.image_rows import shares_with_images, without_long_images
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.data.encoding.row import Row
from llm_installer.data.prepare import Given, read
from llm_installer.planning.chooser import choose_length
from llm_installer.planning.contradictions import refuse_contradictions
from llm_installer.planning.options import Options
from llm_installer.planning.registry import find_handler


@dataclass(frozen=True)
class Shown:
    """One training example as it is trained on."""

    origin: Origin
    rows: tuple[Row, ...]
    """Ids and loss masks after cutting; none where it is skipped."""
    notes: tuple[str, ...]
    """What it loses, or why it is skipped."""


@dataclass(frozen=True)
class Preview:
    """Training examples as rows, and what encoded them."""

    examples: Sequence[Shown]
    encoder: Encoder


def preview(options: Options, base: Path, progress: Progress = lambda done, total: None) -> Preview:
    """The first `options.show` training examples; relative paths are below `base`.

    The sequence length is the one that training would choose, for which all rows must be encoded unless it is given.
    Raises ModelError, DataError, and UsageError for a length that the model cannot read.
    """
    refuse_contradictions(options)
    folder = ModelDir.find(options.model_path)
    info = read_model_info(folder.weights, folder.root.name)
    given, encoder = read(options, base), load_encoder(info, options.train_on_prompt)
    lost = [] if options.max_seq_length else _lost_shares(given, encoder, progress)
    limit, _ = choose_length(options, info, find_handler(info), lost)
    return first_rows(given, encoder, limit, options.show or 0)


def first_rows(given: Given, encoder: Encoder, limit: int, count: int) -> Preview:
    """The first `count` training examples as they are trained on, where rows have at most `limit` tokens."""
    return Preview([_shown(example, encoder, limit) for example in given.train[:count]], encoder)


def _lost_shares(given: Given, encoder: Encoder, progress: Progress) -> list[tuple[int, float]]:
    rows, _ = encode(given.train, encoder, progress)
    return shares_with_images(rows, cut_shares(rows))


def _shown(example: Example, encoder: Encoder, limit: int) -> Shown:
    """The example as prepare would make it."""
    rows, dropped = encode([example], encoder, lambda done, total: None)
    rows, too_long = without_long_images(rows, [example], limit)
    side = Side([example], rows, limit)
    left = cut(rows, limit)
    reasons = [d.reason for d in (*dropped, *too_long, *side.dropped)]
    skipped = [reason if len(left) else f"skipped, {reason}" for reason in reasons]
    return Shown(example.origin, tuple(left), (*skipped, *(row.loses for row in side)))
