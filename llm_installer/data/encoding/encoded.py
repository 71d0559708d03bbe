"""Rows as a few flat arrays, in memory or mapped from files: what a million of them cost is their tokens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import xxhash

from llm_installer.data.encoding.encode import Ids, Mask, Row
from llm_installer.data.reading.images import image_content

Numbers: TypeAlias = npt.NDArray[np.int64]

_IDS, _LEARNED, _ROWS = "ids.int32", "learned.bool", "rows.int64"
_COLUMNS = ("lengths", "counts", "source", "text", "pictures")


@dataclass(frozen=True, eq=False)
class EncodedSet(Sequence[Row]):
    """Rows that share one long array of tokens. Row `i` is the token at `heads[i]`, then those from `starts[i]` + 1 to
    `starts[i]` + `lengths[i]`: cutting and choosing rows copies no token. The first is never learned."""

    ids: Ids
    """Shape [tokens], like `learned`."""
    learned: Mask
    heads: Numbers
    """Shape [rows], like all below."""
    starts: Numbers
    lengths: Numbers
    counts: Numbers
    """Learned tokens."""
    source: Numbers
    """Index of the example each row came from."""
    text: Mask
    """Whether it is plain text, which may be cut into pieces."""
    pictures: Numbers
    """How many images some of its tokens stand for."""
    images_of: Callable[[int], Sequence[str]] | None = None
    """Where the images of an example are: asked when a row is made, kept nowhere."""

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
        ids, learned = self.ids[start : start + length], self.learned[start : start + length]
        if head != start:
            ids = np.concatenate([self.ids[head : head + 1], ids[1:]])
        if learned[:1].any():
            learned = learned.copy()
            learned[0] = False
        source, pictures = int(self.source[index]), int(self.pictures[index])
        images: Sequence[str] = ()
        if pictures:
            assert self.images_of, "rows with images must know where these are"
            images = self.images_of(source)[:pictures]
        return Row(ids, learned, source, bool(self.text[index]), tuple(images))

    def select(self, indices: Numbers) -> EncodedSet:
        """These rows, in this order."""
        heads, starts, lengths = self.heads[indices], self.starts[indices], self.lengths[indices]
        counts, source, text = self.counts[indices], self.source[indices], self.text[indices]
        pictures = self.pictures[indices]
        return EncodedSet(
            self.ids, self.learned, heads, starts, lengths, counts, source, text, pictures, self.images_of
        )

    def fingerprint(self) -> str:
        """A hash of everything that training sees of these rows."""
        found = xxhash.xxh3_128()
        columns: tuple[npt.NDArray[Any], ...] = (
            self.ids, self.learned, self.heads, self.starts, self.lengths, self.source,
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
        return _whole(*_flat(list(rows)))

    @classmethod
    def load(cls, folder: Path) -> EncodedSet:
        """The rows that an EncodedWriter wrote, their tokens mapped from the files."""
        ids: Ids = _mapped(folder / _IDS, np.int32)
        learned: Mask = _mapped(folder / _LEARNED, np.bool_)
        return _whole(ids, learned, np.fromfile(folder / _ROWS, np.int64).reshape(-1, len(_COLUMNS)))


class EncodedWriter:
    """Appends rows to the files of a folder, which need not fit into memory together."""

    def __init__(self, folder: Path) -> None:
        self._files = [(folder / name).open("ab") for name in (_IDS, _LEARNED, _ROWS)]

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows."""
        columns: tuple[npt.NDArray[Any], ...] = _flat(rows)
        for file, column in zip(self._files, columns, strict=True):
            file.write(column.tobytes())

    def append_folder(self, folder: Path) -> None:
        """Add, byte for byte, what another writer wrote."""
        for file, name in zip(self._files, (_IDS, _LEARNED, _ROWS), strict=True):
            with (folder / name).open("rb") as part:
                shutil.copyfileobj(part, file, 1 << 20)

    def close(self) -> None:
        """Everything is in the files."""
        for file in self._files:
            file.close()


def _flat(rows: Sequence[Row]) -> tuple[Ids, Mask, Numbers]:
    """The tokens of rows one after the other, and a table with a line for each row."""
    ids = np.concatenate([np.empty(0, np.int32), *[r.ids for r in rows]])
    learned = np.concatenate([np.empty(0, np.bool_), *[r.learned for r in rows]])
    found = [(len(r.ids), 0, r.source, r.text, len(r.images)) for r in rows]
    table = np.array(found, np.int64).reshape(-1, len(_COLUMNS))
    ends = np.cumsum(table[:, 0])
    before = np.concatenate([[0], np.cumsum(learned)])
    table[:, 1] = before[ends] - before[np.minimum(ends - table[:, 0] + 1, ends)]
    return ids, learned, table


def _whole(ids: Ids, learned: Mask, table: Numbers) -> EncodedSet:
    lengths, counts, source, text, pictures = (np.ascontiguousarray(column) for column in table.T)
    starts = np.cumsum(lengths) - lengths
    return EncodedSet(ids, learned, starts, starts, lengths, counts, source, text.astype(np.bool_), pictures)


def _mapped(file: Path, kind: type[np.generic]) -> npt.NDArray[Any]:
    """The file as an array; a plain one, because numpy slices its own memmaps several times slower."""
    if not file.stat().st_size:
        return np.empty(0, kind)
    return np.asarray(np.memmap(file, kind, "r"))
