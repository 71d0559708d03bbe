"""Rows as a few flat arrays, in memory or mapped from files: a million rows take no more than their tokens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt
import xxhash

from llm_installer.core.arrays import Numbers
from llm_installer.data.encoding.row import Ids, Mask, Row
from llm_installer.data.reading.images import image_content

Scalar = TypeVar("Scalar", bound=np.generic)

_IDS, _SUPERVISED, _ROWS = "ids.int32", "supervised.bool", "rows.int64"
_COLUMNS = ("lengths", "counts", "source", "text", "pictures")


@dataclass(frozen=True, eq=False)
class EncodedSet(Sequence[Row]):
    """Rows that share one long array of tokens. Row `i` is the token at `heads[i]`, then those from `starts[i]` + 1 to
    `starts[i]` + `lengths[i]`: truncating and selecting rows copies no token. The first is never supervised."""

    ids: Ids
    """Shape [tokens], like `supervised`."""
    supervised: Mask
    heads: Numbers
    """Shape [rows], like all below."""
    starts: Numbers
    lengths: Numbers
    counts: Numbers
    """Supervised tokens."""
    source: Numbers
    """Index of the example each row came from."""
    text: Mask
    """Whether it is plain text, which may be split."""
    pictures: Numbers
    """How many images the row has."""
    images_of: Callable[[int], Sequence[str]] | None = None
    """Where the images of an example are; called when a row is made."""

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> EncodedSet: ...
    def __getitem__(self, index: int | slice) -> Row | EncodedSet:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        head, start, length = int(self.heads[index]), int(self.starts[index]), int(self.lengths[index])
        ids, supervised = self.ids[start : start + length], self.supervised[start : start + length]
        if head != start:
            ids = np.concatenate([self.ids[head : head + 1], ids[1:]])
        if supervised[:1].any():
            supervised = supervised.copy()
            supervised[0] = False
        source, pictures = int(self.source[index]), int(self.pictures[index])
        images: Sequence[str] = ()
        if pictures:
            assert self.images_of, "rows with images must know where these are"
            images = self.images_of(source)[:pictures]
        return Row(ids, supervised, source, bool(self.text[index]), tuple(images))

    def select(self, indices: Numbers) -> EncodedSet:
        """These rows, in this order."""
        heads, starts, lengths = self.heads[indices], self.starts[indices], self.lengths[indices]
        counts, source, text = self.counts[indices], self.source[indices], self.text[indices]
        pictures = self.pictures[indices]
        return EncodedSet(
            self.ids, self.supervised, heads, starts, lengths, counts, source, text, pictures, self.images_of
        )

    def fingerprint(self) -> str:
        """A hash of everything that training sees of these rows. Runs store it: it must never change."""
        found = xxhash.xxh3_128()
        columns: tuple[npt.NDArray[np.generic], ...] = (
            self.ids, self.supervised, self.heads, self.starts, self.lengths, self.source,
        )  # fmt: skip
        for column in columns:
            found.update(np.ascontiguousarray(column).data)
        for image in self._images():
            found.update(xxhash.xxh3_128_digest(image_content(image)))
        return found.hexdigest()

    def _images(self) -> Iterator[str]:
        """Where the images of all rows are, row by row."""
        if self.images_of:
            for i in np.flatnonzero(self.pictures):
                yield from self.images_of(int(self.source[i]))[: int(self.pictures[i])]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> EncodedSet:
        """Rows copied into one set."""
        return _assembled(*_flat(list(rows)))

    @classmethod
    def load(cls, folder: Path) -> EncodedSet:
        """The rows that an EncodedWriter wrote, their tokens mapped from the files."""
        ids: Ids = _mapped(folder / _IDS, np.int32)
        supervised: Mask = _mapped(folder / _SUPERVISED, np.bool_)
        return _assembled(ids, supervised, np.fromfile(folder / _ROWS, np.int64).reshape(-1, len(_COLUMNS)))


class EncodedWriter:
    """Appends rows to the files of a folder; they need not fit into memory together."""

    def __init__(self, folder: Path) -> None:
        self._files = [(folder / name).open("ab") for name in (_IDS, _SUPERVISED, _ROWS)]

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows."""
        columns: tuple[npt.NDArray[np.generic], ...] = _flat(rows)
        for file, column in zip(self._files, columns, strict=True):
            file.write(column.tobytes())

    def append_folder(self, folder: Path) -> None:
        """Add, byte for byte, what another writer wrote."""
        for file, name in zip(self._files, (_IDS, _SUPERVISED, _ROWS), strict=True):
            with (folder / name).open("rb") as part:
                shutil.copyfileobj(part, file, 1 << 20)

    def close(self) -> None:
        """Write what is still in memory."""
        for file in self._files:
            file.close()


def _flat(rows: Sequence[Row]) -> tuple[Ids, Mask, Numbers]:
    """The tokens of rows one after the other, and a table with a line for each row."""
    ids = np.concatenate([np.empty(0, np.int32), *[r.ids for r in rows]])
    supervised = np.concatenate([np.empty(0, np.bool_), *[r.supervised for r in rows]])
    found = [(len(r.ids), 0, r.source, r.text, len(r.images)) for r in rows]
    table = np.array(found, np.int64).reshape(-1, len(_COLUMNS))
    ends = np.cumsum(table[:, 0])
    before = np.concatenate([[0], np.cumsum(supervised)])
    table[:, 1] = before[ends] - before[np.minimum(ends - table[:, 0] + 1, ends)]
    return ids, supervised, table


def _assembled(ids: Ids, supervised: Mask, table: Numbers) -> EncodedSet:
    lengths, counts, source, text, pictures = (np.ascontiguousarray(column) for column in table.T)
    starts = np.cumsum(lengths) - lengths
    return EncodedSet(ids, supervised, starts, starts, lengths, counts, source, text.astype(np.bool_), pictures)


def _mapped(file: Path, kind: type[Scalar]) -> npt.NDArray[Scalar]:
    """The file as an array; a plain one, because numpy slices its own memmaps several times slower."""
    if not file.stat().st_size:
        return np.empty(0, kind)
    return np.asarray(np.memmap(file, kind, "r"))
