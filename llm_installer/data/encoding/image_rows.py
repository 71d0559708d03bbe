"""Rows with images: they know where their images are, and are used whole or skipped, never truncated."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import xxhash

from llm_installer.core.examples import Dropped, Example
from llm_installer.data.encoding.encoded import EncodedSet


def with_images(rows: EncodedSet, examples: Sequence[Example]) -> EncodedSet:
    """The rows of `examples`, able to say where their images are."""
    return replace(rows, images_of=lambda source: examples[source].images) if rows.pictures.any() else rows


def without_long_images(rows: EncodedSet, examples: Sequence[Example], limit: int) -> tuple[EncodedSet, list[Dropped]]:
    """The rows without those that have images and more than `limit` tokens, and why these are skipped."""
    long = (rows.pictures > 0) & (rows.lengths > limit)
    if not long.any():
        return rows, []
    dropped = [
        Dropped(
            examples[rows.source[i]].origin,
            f"with its images it is {rows.lengths[i]:,} tokens long, {limit:,} fit, and images are never cut; "
            "use smaller images, or raise --max-seq-length",
        )
        for i in np.flatnonzero(long)
    ]
    return rows.select(np.flatnonzero(~long)), dropped


def shares_with_images(rows: EncodedSet, shares: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """(limit, share lost by it), where a row with images that is longer loses all its supervised tokens."""
    seen = rows.pictures > 0
    lengths, counts, total = rows.lengths[seen], rows.counts[seen], int(rows.counts.sum()) or 1
    return [(limit, min(1.0, share + int(counts[lengths > limit].sum()) / total)) for limit, share in shares]


def image_stamps(examples: Iterable[Example]) -> str:
    """A hash of size and modification time of every image: when one changes, everything is encoded again."""
    digest = xxhash.xxh3_128()
    for example in examples:
        for image in example.images:
            digest.update(f"{image}:{_stamp(image)};".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _stamp(image: str) -> tuple[int, int] | None:
    try:
        found = os.stat(image)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns
