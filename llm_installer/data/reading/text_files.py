"""Text from bytes: UTF-8, or the encoding that a byte order mark names; anything else is refused with its place."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.data.reading.archives import byte_blocks
from llm_installer.data.reading.rows import Row, Source, data_suffix
from llm_installer.data.reading.text_rows import ROWS, SAMPLE, TextRows, choose

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the data; fetch the data with: git lfs pull"),
    (b"\x1f\x8b\x08", "compressed with gzip; add .gz to its name"),
    (b"PK\x03\x04", "a zip file; give it a name that ends in .zip"),
    (b"PAR1\x15", "a parquet file; give it a name that ends in .parquet"),
    (b"%PDF-", "a PDF; save its text as a .txt file"),
)
"""First bytes of files that are not text, whatever their names say, and what they are."""


@dataclass(frozen=True, slots=True)
class Block:
    """Complete lines in UTF-8, and where they begin: a 1-based line, and a byte offset in the decompressed file."""

    data: bytes
    line: int
    offset: int


def line_blocks(source: Source) -> Iterator[Block]:
    """The lines of a text file in blocks. Only \\n ends a line, or \\r in a file without any \\n. Raises DataError."""
    start, chunks = _utf8_chunks(source)
    line, offset = 1, start
    waiting: list[bytes] = []
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if cut:
            data = b"".join((*waiting, chunk[:cut]))
            yield Block(data, line, offset)
            line += data.count(b"\n")
            offset += len(data)
            waiting = []
        waiting.append(chunk[cut:])
    if rest := b"".join(waiting):
        yield Block(rest, line, offset)


def decoded(source: Source, block: Block) -> str:
    """A block as text. Raises DataError, with the place, for bytes that are not UTF-8 and for NUL."""
    try:
        text = block.data.decode()
    except UnicodeDecodeError as error:
        line = block.line + block.data.count(b"\n", 0, error.start)
        found = f"byte 0x{block.data[error.start]:02X} at offset {block.offset + error.start}"
        command = _command(source, "iconv -f {} -t UTF-8", "WINDOWS-1252")
        raise DataError(
            f"{source.name}:{line}: not UTF-8 ({found}); convert it from its encoding, for example with: {command}"
        ) from None
    if "\0" in text:
        raise _has_nul(source, block)
    return text


def text_lines(source: Source) -> Iterator[tuple[int, str]]:
    """Each line with its 1-based number, and with its \\n or \\r\\n. Raises DataError."""
    for block in line_blocks(source):
        lines = decoded(source, block).split("\n")
        last = lines.pop()
        for number, line in enumerate(lines, block.line):
            yield number, line + "\n"
        if last:
            yield block.line + len(lines), last


def whole_text(source: Source) -> str:
    """The text of a file that must be read as a whole. Raises DataError."""
    return "".join([decoded(source, block) for block in line_blocks(source)])


def plain_rows(source: Source) -> Iterator[Row]:
    """The rows of plain text: lines, paragraphs or pieces, as asked or as its beginning suggests. Raises DataError."""
    lines = _bare_lines(source)
    first = _first(lines)
    rows = source.text_rows or choose(first).rows
    make, _ = ROWS[rows]
    for piece in make(chain(first, lines)):
        yield Row(piece.text, Origin(source.name, piece.line), ends=piece.ends)


def text_rows(source: Source) -> TextRows:
    """What a row of plain text is, and why. Raises DataError."""
    return choose(_first(_bare_lines(source)))


def _bare_lines(source: Source) -> Iterator[tuple[int, str]]:
    for number, line in text_lines(source):
        yield number, line.removesuffix("\n").removesuffix("\r")


def _first(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """The first lines, which are taken from `lines`."""
    found: list[tuple[int, str]] = []
    size = 0
    for number, line in lines:
        found.append((number, line))
        size += len(line)
        if size >= SAMPLE:
            break
    return found


def check_signature(source: Source, beginning: bytes) -> None:
    """Raises DataError when the first bytes are those of another kind of file."""
    for magic, kind in _SIGNATURES:
        if beginning.startswith(magic):
            raise DataError(f"{source.name} is really {kind}")


def _utf8_chunks(source: Source) -> tuple[int, Iterator[bytes]]:
    """The offset after a UTF-8 byte order mark, and the content as UTF-8 without one."""
    blocks = byte_blocks(source)
    first = next(blocks, b"")
    check_signature(source, first)
    start = 0
    chunks = chain((first,), blocks)
    if first.startswith(codecs.BOM_UTF8):
        start = len(codecs.BOM_UTF8)
        chunks = chain((first[start:],), blocks)
    elif encoding := next((name for mark, name in _MARKS if first.startswith(mark)), ""):
        converted = _converted(source, chunks, encoding)
        first = next(converted, b"")
        chunks = chain((first,), converted)
    if b"\r" in first[:-1] and b"\n" not in first:
        return start, (chunk.replace(b"\r", b"\n") for chunk in chunks)
    return start, chunks


def _converted(source: Source, blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    for block in chain(blocks, (b"",)):
        waiting = decoder.getstate()[0]
        try:
            yield decoder.decode(block, final=not block).encode()
        except UnicodeDecodeError as error:
            place = offset - len(waiting) + error.start
            raise DataError(
                f"{source.name} has the byte order mark of {encoding.upper()} but is damaged at byte {place} "
                f"({error.reason}); save it again as UTF-8"
            ) from None
        offset += len(block)


def _has_nul(source: Source, block: Block) -> DataError:
    place = block.data.index(b"\0")
    line = block.line + block.data.count(b"\n", 0, place)
    nuls = block.data[:1000].count(b"\0")
    if nuls * 3 > len(block.data[:1000]):
        advice = _command(source, "iconv -f {} -t UTF-8", "UTF-16LE" if place % 2 else "UTF-16BE")
        return DataError(
            f"{source.name}:{line}: a NUL byte at offset {block.offset + place}; the file looks like UTF-16 "
            f"without a byte order mark; convert it with: {advice}"
        )
    advice = _command(source, "tr -d {}", "'\\000'")
    return DataError(
        f"{source.name}:{line}: a NUL byte at offset {block.offset + place}, which is not text; "
        f"if the rest is sound, remove it with: {advice}"
    )


def _command(source: Source, filter_command: str, argument: str) -> str:
    """A shell command that filters the decompressed file into a new file."""
    command = filter_command.format(argument)
    packed = (source.member or source.name).lower().endswith(".gz")
    file = PurePosixPath(source.member or source.name)
    stem = file.name[: -len(".gz")] if packed else file.name
    suffix = data_suffix(stem)
    target = shlex.quote(stem[: len(stem) - len(suffix)] + ".utf8" + suffix)
    if not source.member and not packed:
        return f"{command} < {shlex.quote(source.name)} > {target}"
    unpack = "gzip -dc" + ("" if source.member else f" {shlex.quote(source.name)}") + " | " if packed else ""
    if source.member:
        archive = shlex.quote(source.name.removesuffix("!" + source.member))
        unpack = f"unzip -p {archive} {shlex.quote(source.member)} | {unpack}"
    return f"{unpack}{command} > {target}"
